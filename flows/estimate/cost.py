"""What a planned build will cost: time, accelerator hours, bytes and money, each with an interval and its basis.

Rates come from flows/estimate/rates.py, numbers of images from flows/estimate/simulate_rounds.py. A sum adds lows to
lows and highs to highs, as if all were off in one direction. That is careful: partitions of one night share the
machine's mood.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from tailforge.catalog.store import Store
from tailforge.flows.build.choose import choose_build
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build.rounds import first_sizes
from tailforge.flows.build.walk import DRAWN, Plan, plan_build
from tailforge.flows.estimate.build_history import Pace, busy_seconds, read_paces
from tailforge.flows.estimate.forecast import find_prompts
from tailforge.flows.estimate.place_stages import place_stages
from tailforge.flows.estimate.rates import NOTHING, Interval, Rate, exactly, fit_rate
from tailforge.flows.estimate.receipt_sample import last_version, read_known
from tailforge.flows.estimate.simulate_rounds import (
    Further,
    Yield,
    expect_further,
    find_standing,
    find_yields,
    shape_round,
    whole_build_share,
)
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import Address, describe_effort, describe_machine
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.stages.augmented import STAGE as AUGMENTED
from tailforge.tasks.stages.registry import list_stages, stage_names
from tailforge.tasks.stages.samples import STAGE as SAMPLES
from tailforge.tasks.stages.selection import STAGE as SELECTION
from tailforge.tasks.stages.shard_plan import STAGE as SHARD_PLAN
from tailforge.tasks.stages.shards import STAGE as SHARDS
from tailforge.tasks.stages.verdicts import STAGE as VERDICTS

INTERVAL = (
    "about 90 %: Student's t on the logarithm of seconds a row between partitions, times a factor for how unlike they "
    "are; images by the 5 % and 95 % quantiles of rounds that were played"
)
HOUR_SECONDS = 3600.0
VERSION_FACTOR = 1.5  # by which the files of a version's own folder may be off


@dataclass(frozen=True)
class Prices:
    """In one currency: an hour of an accelerator, an hour of the machine, a month of 10^9 bytes. None: not known."""

    accelerator_hour: float | None = None
    machine_hour: float | None = None
    gigabyte_month: float | None = None


@dataclass(frozen=True)
class StageCost:
    """What one stage still has to do and what that costs; None where nothing is known of it.

    `seconds` are of computing, `load` seconds of loading models, `device` what it runs on.
    """

    stage: str
    steps: Interval
    rows: Interval
    seconds: Interval | None
    bytes: Interval | None
    load: float
    device: str | None
    basis: str


@dataclass(frozen=True)
class Estimate:
    """What is still to do. `images`: to be drawn; `accepted`: of the version; `wall`: seconds with so many workers.

    `bytes` are all that the store will grow by, `version_bytes` those of them that lie in the version's own folder:
    tables, card and report, and no shards where these are links. None: no version is there to learn from. `paces`:
    earlier builds of the dataset that tell what lies between steps.
    """

    stages: list[StageCost]
    images: Interval
    accepted: Interval
    rounds: Interval
    yields: list[Yield]
    compute: Interval
    wall: Interval
    workers: int
    paces: int
    accelerator: Interval
    bytes: Interval
    version_bytes: Interval | None
    prices: Prices
    unknown: list[str] = field(default_factory=list)

    @property
    def costs(self) -> dict[str, Interval]:
        """By what is paid for; only what has a price. Storage is by the month, all else is paid once."""
        prices, found = self.prices, {}
        if prices.accelerator_hour is not None:
            found["accelerator"] = self.accelerator.scale(prices.accelerator_hour / HOUR_SECONDS)
        if prices.machine_hour is not None:
            found["machine"] = self.wall.scale(prices.machine_hour / HOUR_SECONDS)
        if prices.gigabyte_month is not None:
            found["storage_month"] = self.bytes.scale(prices.gigabyte_month / 1e9)
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "interval": INTERVAL,
            "stages": [asdict(stage) for stage in self.stages],
            "images": asdict(self.images),
            "accepted": asdict(self.accepted),
            "rounds": asdict(self.rounds),
            "yields": [asdict(each) | {"share": each.share} for each in self.yields],
            "compute_seconds": asdict(self.compute),
            "wall_seconds": asdict(self.wall),
            "workers": self.workers,
            "earlier_builds": self.paces,
            "accelerator_hours": asdict(self.accelerator.scale(1 / HOUR_SECONDS)),
            "bytes": asdict(self.bytes),
            "version_bytes": None if self.version_bytes is None else asdict(self.version_bytes),
            "cost": {name: asdict(cost) for name, cost in self.costs.items()},
            "unknown": self.unknown,
        }


def plan_cost(
    recipe: str, store: str, overrides: Sequence[str], workers: int | None, prices: Prices
) -> tuple[Plan, Estimate]:
    """A recipe's plan and what it will cost with so many workers, one a core by default. Errors: RecipeError."""
    chosen = choose_build(recipe, store, overrides)
    context = prepare_build(chosen.reference, store, chosen.overrides)
    plan = plan_build(context)
    return plan, estimate_cost(Store.open(store), context, plan, workers or os.cpu_count() or 1, prices)


def estimate_cost(store: Store, context: BuildContext, plan: Plan, workers: int, prices: Prices) -> Estimate:
    """Estimate what `plan` says is missing, and what will follow from it."""
    version = last_version(store, context.recipe.name)
    addresses = place_stages(context)
    further, yields = _expect(store, context, plan, version, addresses)
    work = _expect_work(context, plan, further)
    stages = []
    for stage in stage_names():
        steps, rows = work.get(stage, (NOTHING, NOTHING))
        if steps.value:
            rate = _find_rate(store, stage, addresses[stage], plan.tally.receipts, version)
            stages.append(_cost_stage(stage, steps, rows, rate))
    known = [each for each in stages if each.seconds is not None]
    compute = sum((each.seconds for each in known if each.seconds), NOTHING)
    paces = read_paces(store, context.recipe.name)
    own = None if plan.complete or version is None else expect_version(version, further.accepted, store.is_local)
    accelerated = [each for each in known if each.device not in (None, "cpu")]
    return Estimate(
        stages=stages,
        images=work.get(SAMPLES.name, (NOTHING, NOTHING))[1],
        accepted=further.accepted,
        rounds=further.rounds,
        yields=yields,
        compute=compute,
        wall=expect_wall(known, workers, paces),
        workers=workers,
        paces=len(paces),
        accelerator=sum(((each.seconds or NOTHING) + exactly(each.load) for each in accelerated), NOTHING),
        bytes=sum((each.bytes for each in known if each.bytes), own or NOTHING),
        version_bytes=own,
        prices=prices,
        unknown=[each.stage for each in stages if each.seconds is None],
    )


def _find_rate(
    store: Store, stage: str, address: Address, own: Sequence[Receipt], version: Dataset | None
) -> Rate | None:
    """By receipts of the stage; where none tells, by images that were drawn, if it makes passes as drawing does."""
    mine = describe_effort(address)
    rate = fit_rate(mine, address.models, read_known(store, stage, own, version))
    if rate is None and mine.passes:
        rate = fit_rate(mine, address.models, read_known(store, SAMPLES.name, own, version))
    return rate


def expect_wall(stages: Sequence[StageCost], workers: int, paces: Sequence[Pace] = ()) -> Interval:
    """Seconds from start to end with so many threads.

    At the least what `busy_seconds` says, at the most all of it one after the other. With `paces` of earlier builds on
    this machine, the value is the least plus what a step cost beyond it there (median; bounds: lowest and highest);
    without any, it is the middle of both.
    """
    known = [stage for stage in stages if stage.seconds is not None]
    everything = sum((stage.seconds for stage in known if stage.seconds), NOTHING)
    serial = {stage.name for stage in list_stages() if stage.uses_generator}
    alone = sum((stage.seconds for stage in known if stage.seconds and stage.stage in serial), NOTHING)
    load, steps = sum(stage.load for stage in known), sum((stage.steps for stage in known), NOTHING)
    least = [
        busy_seconds(whole, drawing, load, workers)
        for whole, drawing in zip(_bounds(everything), _bounds(alone), strict=True)
    ]
    between = [pace.between for pace in paces if pace.machine == describe_machine()]
    if not between:
        return Interval((least[0] + everything.value + load) / 2, least[1], everything.high + load)
    value = least[0] + median(between) * steps.value
    high = everything.high + load + max(between) * steps.high
    return Interval(value, least[1] + min(between) * steps.low, max(high, value))


def expect_version(version: Dataset, samples: Interval, linked: bool) -> Interval:
    """Bytes of a version's own files: tables by the sample, as in the last version, card and report as they are there.

    Shards count where they are copied into the version and not `linked`. The factor is a choice of ours.
    """
    by_sample, fixed = 0, 0
    for path, file in version.files.items():
        if path.startswith("shards/"):
            by_sample += 0 if linked else file.bytes
        elif path.endswith(".parquet"):
            by_sample += file.bytes
        else:
            fixed += file.bytes
    return (samples.scale(by_sample / max(version.counts.samples, 1)) + exactly(fixed)).widen(VERSION_FACTOR)


def _bounds(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _cost_stage(stage: str, steps: Interval, rows: Interval, rate: Rate | None) -> StageCost:
    if rate is None:
        return StageCost(stage, steps, rows, None, None, 0.0, None, "nothing is known of it")
    seconds = rate.seconds.predict(steps, rows, rate.factor) + exactly(rate.start)
    size = rate.bytes.predict(steps, rows, rate.factor)
    return StageCost(stage, steps, rows, seconds, size, rate.load, rate.device, rate.basis)


def _expect(
    store: Store, context: BuildContext, plan: Plan, version: Dataset | None, addresses: Mapping[str, Address]
) -> tuple[Further, list[Yield]]:
    """The rounds that follow. None do where the selection is done or prompts are still to be written by a model."""
    tally, wanted = plan.tally, exactly(plan.wanted)
    over = plan.complete or any(stage in tally.expected for stage in (AUGMENTED.name, SHARD_PLAN.name, SHARDS.name))
    prompts = None if over else find_prompts(store, context)
    if prompts is None:
        return Further(NOTHING, NOTHING, wanted, exactly(1)), []
    first = {name: shape_round(context, prompts[name], size)[0] for name, size in first_sizes(context.recipe).items()}
    verdicts = read_known(store, VERDICTS.name, tally.receipts, version)
    selection = describe_effort(addresses[SELECTION.name]).like
    selections = [
        each
        for each in read_known(store, SELECTION.name, tally.receipts, version)
        if each.effort and each.effort.like == selection
    ]
    yields = find_yields(context, describe_effort(addresses[SAMPLES.name]).like, verdicts)
    open_rows = sum(tally.missing_rows[stage] for stage in DRAWN) / max(len(tally.open), 1)
    standing = find_standing(tally.receipts, [each.label for each in tally.open], open_rows, first)
    kept = whole_build_share(context, selections)
    return expect_further(context, prompts, standing, yields, kept), list(yields.values())


def _expect_work(context: BuildContext, plan: Plan, further: Further) -> dict[str, tuple[Interval, Interval]]:
    """(partitions, rows) that each stage still has to do."""
    work = {s.stage: (exactly(s.missing), exactly(s.missing_rows)) for s in plan.stages if s.missing}
    if plan.complete:
        return work
    for stage in DRAWN:
        work[stage] = _add(work.get(stage), further.partitions, further.images)
    if before := engine_of(context.recipe).round:
        runs = further.partitions.scale(1 / len(context.recipe.concepts))
        work[before.stage] = _add(work.get(before.stage), runs, further.images)
    reached = set(plan.tally.expected)
    images = exactly(plan.images) + further.images
    if not {AUGMENTED.name, SHARD_PLAN.name} & reached:
        work[SELECTION.name] = (further.rounds, images)
    copies = 1
    if context.recipe.augmentation is not None:
        copies += context.recipe.augmentation.copies
        if AUGMENTED.name not in reached:
            planned = next((s.missing + s.finished for s in plan.stages if s.stage == SAMPLES.name), 0)
            work[AUGMENTED.name] = (exactly(planned) + further.partitions, further.accepted)
    packed = further.accepted.scale(copies)
    if SHARD_PLAN.name not in reached:
        work[SHARD_PLAN.name] = (exactly(1), packed)
    if SHARDS.name not in reached:
        work[SHARDS.name] = (_count_shards(context, packed), packed)
    return {stage: both for stage, both in work.items() if both[0].high > 0}


def _add(known: tuple[Interval, Interval] | None, steps: Interval, rows: Interval) -> tuple[Interval, Interval]:
    before = known or (NOTHING, NOTHING)
    return before[0] + steps, before[1] + rows


def _count_shards(context: BuildContext, samples: Interval) -> Interval:
    """Each split is packed on its own, so that it has a shard at least."""
    shares, most = [share for share in context.recipe.splits.values() if share > 0], context.recipe.sharding.max_samples
    return Interval(*(float(sum(-(-rows * share // most) for share in shares)) for rows in _bounds(samples)))
