"""Estimate the cost of a planned build: time, accelerator hours, bytes and money, each with an interval and a basis.

flows/estimate/rates.py fits the rates, flows/estimate/simulate_rounds.py predicts the numbers of images. A sum adds
lower bounds to lower bounds and upper to upper, as if all errors had one sign. This is cautious, because the partitions
of one build share the load of the machine.
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
from tailforge.flows.estimate.expect_steered import count_steering, expect_steered
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
from tailforge.schemas.prices import HOUR_SECONDS, Prices
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import Address, describe_effort, describe_machine
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.methods.planning.samples import turn_prompts
from tailforge.tasks.stages.augmented import STAGE as AUGMENTED
from tailforge.tasks.stages.registry import generator_stages, stage_names
from tailforge.tasks.stages.samples import STAGE as SAMPLES
from tailforge.tasks.stages.selection import STAGE as SELECTION
from tailforge.tasks.stages.shard_plan import STAGE as SHARD_PLAN
from tailforge.tasks.stages.shards import STAGE as SHARDS
from tailforge.tasks.stages.verdicts import STAGE as VERDICTS

INTERVAL = (
    "about 90 %: Student's t on the logarithm of seconds per row between partitions, times a factor for their "
    "difference from this build; images by the 5 % and 95 % quantiles of simulated rounds"
)
VERSION_FACTOR = 1.5  # uncertainty of the size of a version's own files; our choice


@dataclass(frozen=True)
class StageCost:
    """The remaining work of one stage and its cost; None if no receipt shows the cost.

    `seconds`: of computing. `load`: seconds of loading models. `device`: on which the stage runs.
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
    """The remaining cost of a build. `images`: still to make. `accepted`: of the version. `wall`: seconds in all.

    `bytes`: growth of the store. `version_bytes`: the part in the version's own folder, which holds tables, card and
    report, and shards unless they are links; None if no earlier version shows it. `paces`: recorded builds, from which
    the overhead per step is known.
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
        """Return the cost per item with a price. Storage is paid per month, everything else once."""
        prices, found = self.prices, {}
        if prices.accelerator_hour is not None:
            found["accelerator"] = self.accelerator.scale(prices.accelerator_hour / HOUR_SECONDS)
        if prices.machine_hour is not None:
            found["machine"] = self.wall.scale(prices.machine_hour / HOUR_SECONDS)
        if prices.gigabyte_month is not None:
            found["storage_month"] = self.bytes.scale(prices.gigabyte_month / 1e9)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as JSON values."""
        # Times are seconds, except for hours of accelerators.
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
    """Return a recipe's plan and its cost. `workers`: by default one per core. Errors: RecipeError, ModelError."""
    chosen = choose_build(recipe, store, overrides)
    context = prepare_build(chosen.reference, store, chosen.overrides)
    plan = plan_build(context)
    return plan, estimate_cost(Store.open(store), context, plan, workers or os.cpu_count() or 1, prices)


def estimate_cost(store: Store, context: BuildContext, plan: Plan, workers: int, prices: Prices) -> Estimate:
    """Estimate the cost of the missing work of a plan, and of the rounds after it."""
    # Work per stage: the plan's own, and that of expected further rounds.
    version = last_version(store, context.recipe.name)
    addresses = place_stages(context)
    further, yields = _expect(store, context, plan, version, addresses)
    work = _expect_work(context, plan, further)

    # Cost per stage, by the rates of similar receipts.
    stages = []
    for stage in stage_names():
        steps, rows = work.get(stage, (NOTHING, NOTHING))
        if steps.value:
            rate = _find_rate(store, stage, addresses[stage], plan.tally.receipts, version)
            stages.append(_cost_stage(stage, steps, rows, rate))

    # Sums over the stages with a known cost.
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
    """Return the rate of a stage from its own receipts.

    Without any, a stage with passes through the network uses receipts of samples.
    """
    mine = describe_effort(address)
    rate = fit_rate(mine, address.models, read_known(store, stage, own, version))
    if rate is None and mine.passes:
        rate = fit_rate(mine, address.models, read_known(store, SAMPLES.name, own, version))
    return rate


def expect_wall(stages: Sequence[StageCost], workers: int, paces: Sequence[Pace] = ()) -> Interval:
    """Return the wall time of a build with this number of threads, in seconds.

    The least is `busy_seconds`, the most is all stages in sequence. With recorded builds on this machine, the value is
    the least plus the median of their overhead per step; minimum and maximum are the bounds. Without any, the value is
    the mean of least and most.
    """
    # The least and the most.
    known = [stage for stage in stages if stage.seconds is not None]
    everything = sum((stage.seconds for stage in known if stage.seconds), NOTHING)
    serial = generator_stages()
    alone = sum((stage.seconds for stage in known if stage.seconds and stage.stage in serial), NOTHING)
    load, steps = sum(stage.load for stage in known), sum((stage.steps for stage in known), NOTHING)
    least = [
        busy_seconds(whole, drawing, load, workers)
        for whole, drawing in zip(_bounds(everything), _bounds(alone), strict=True)
    ]

    # The overhead per step, if builds on this machine are recorded.
    between = [pace.between for pace in paces if pace.machine == describe_machine()]
    if not between:
        return Interval((least[0] + everything.value + load) / 2, least[1], everything.high + load)
    value = least[0] + median(between) * steps.value
    high = everything.high + load + max(between) * steps.high
    return Interval(value, least[1] + min(between) * steps.low, max(high, value))


def expect_version(version: Dataset, samples: Interval, linked: bool) -> Interval:
    """Return the bytes of a version's own files, from those of the last version.

    Tables grow with the samples, card and report do not. Shards count unless they are `linked`.
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
        return StageCost(stage, steps, rows, None, None, 0.0, None, "no receipts")
    seconds = rate.seconds.predict(steps, rows, rate.factor) + exactly(rate.start)
    size = rate.bytes.predict(steps, rows, rate.factor)
    return StageCost(stage, steps, rows, seconds, size, rate.load, rate.device, rate.basis)


def _expect(
    store: Store, context: BuildContext, plan: Plan, version: Dataset | None, addresses: Mapping[str, Address]
) -> tuple[Further, list[Yield]]:
    """Return the expected further rounds, and the yields of the concepts.

    No round follows if the selection is done. Without the prompts of a language model the rounds are unknown.
    """
    # A step after the selection shows that the selection is done.
    tally, wanted = plan.tally, exactly(plan.wanted)
    over = plan.complete or any(stage in tally.expected for stage in (AUGMENTED.name, SHARD_PLAN.name, SHARDS.name))
    prompts = None if over else find_prompts(store, context)
    if prompts is None:
        return Further(NOTHING, NOTHING, wanted, exactly(1)), []

    # Shares that pass, from verdicts and selections.
    turned = {name: turn_prompts(context.recipe, name, prompts[name], 0) for name in prompts}
    first = {name: shape_round(context, turned[name], size)[0] for name, size in first_sizes(context.recipe).items()}
    verdicts = read_known(store, VERDICTS.name, tally.receipts, version)
    selection = describe_effort(addresses[SELECTION.name]).like
    selections = [
        each
        for each in read_known(store, SELECTION.name, tally.receipts, version)
        if each.effort and each.effort.like == selection
    ]

    # Simulate the rounds from the build's present state.
    yields = find_yields(context, describe_effort(addresses[SAMPLES.name]).like, verdicts)
    open_rows = sum(tally.missing_rows[stage] for stage in DRAWN) / max(len(tally.open), 1)
    standing = find_standing(tally.receipts, [each.label for each in tally.open], open_rows, first)
    kept = whole_build_share(context, selections)
    expect = expect_steered if context.recipe.allocation.steers else expect_further
    return expect(context, prompts, standing, yields, kept), list(yields.values())


def _expect_work(context: BuildContext, plan: Plan, further: Further) -> dict[str, tuple[Interval, Interval]]:
    """Return the remaining (partitions, rows) of each stage."""
    # The plan's missing work, and that of further rounds.
    work = {s.stage: (exactly(s.missing), exactly(s.missing_rows)) for s in plan.stages if s.missing}
    if plan.complete:
        return work
    for stage in DRAWN:
        work[stage] = _add(work.get(stage), further.partitions, further.images)
    if before := engine_of(context.recipe).round:
        runs = further.partitions.scale(1 / len(context.recipe.concepts))
        work[before.stage] = _add(work.get(before.stage), runs, further.images)

    for stage, steps in count_steering(context, further.images).items():
        work[stage] = _add(work.get(stage), steps, NOTHING)

    work |= _expect_publication(context, plan, further)
    return {stage: both for stage, both in work.items() if both[0].high > 0}


def _expect_publication(context: BuildContext, plan: Plan, further: Further) -> dict[str, tuple[Interval, Interval]]:
    """Return the (partitions, rows) of the stages after the rounds that the plan lacks."""
    work: dict[str, tuple[Interval, Interval]] = {}
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

    # Copies are packed as well.
    packed = further.accepted.scale(copies)
    if SHARD_PLAN.name not in reached:
        work[SHARD_PLAN.name] = (exactly(1), packed)
    if SHARDS.name not in reached:
        work[SHARDS.name] = (_count_shards(context, packed), packed)
    return work


def _add(known: tuple[Interval, Interval] | None, steps: Interval, rows: Interval) -> tuple[Interval, Interval]:
    before = known or (NOTHING, NOTHING)
    return before[0] + steps, before[1] + rows


def _count_shards(context: BuildContext, samples: Interval) -> Interval:
    """Return the number of shards. Each split has shards of its own, at least one."""
    shares, most = [share for share in context.recipe.splits.values() if share > 0], context.recipe.sharding.max_samples
    return Interval(*(float(sum(-(-rows * share // most) for share in shares)) for rows in _bounds(samples)))
