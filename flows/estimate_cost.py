"""What a planned build will cost: time, accelerator hours, bytes and money, each with an interval and its basis.

Rates are those of flows/cost_rates.py, the images those of flows/expect_rounds.py. Sums add lows to lows and highs to
highs, as if all were off in one direction: that is careful, for partitions of one night do share the machine's mood.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from catalog.registry import Dataset
from catalog.store import Store
from flows.cost_rates import NOTHING, Interval, Rate, exactly, fit_rate
from flows.expect_rounds import (
    Further,
    Yield,
    expect_further,
    find_standing,
    find_yields,
    shape_round,
    whole_build_share,
)
from flows.forecast import find_prompts
from flows.known_receipts import last_version, read_known
from flows.plan_build import DRAWN, Plan, plan_build
from flows.prepare_build import prepare_build
from flows.stages import first_sizes
from schemas.engines import SearchEngine
from schemas.inversion import NaturalInversionEngine
from schemas.jobs import BuildContext, InversionJob, PartitionJob
from schemas.receipts import EngineInputs, Receipt
from tasks import (
    aim_search,
    annotate_masks,
    augment_samples,
    expand_prompts,
    filter_quality,
    find_seeds,
    invert_teacher,
    select_samples,
    synthesize,
    write_shards,
)
from tasks.artifacts import Address, describe_effort
from tasks.render_report import STAGES

ONE_AT_A_TIME = (
    "aims",
    "seeds",
    "inversions",
    "samples",
)  # a process holds one model, which renders one batch at a time
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
    tables, card and report, and no shards where these are links. None: no version is there to learn from.
    """

    stages: list[StageCost]
    images: Interval
    accepted: Interval
    rounds: Interval
    yields: list[Yield]
    compute: Interval
    wall: Interval
    workers: int
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
    context = prepare_build(recipe, store, overrides)
    plan = plan_build(context)
    return plan, estimate_cost(Store.open(store), context, plan, workers or os.cpu_count() or 1, prices)


def estimate_cost(store: Store, context: BuildContext, plan: Plan, workers: int, prices: Prices) -> Estimate:
    """Estimate what `plan` says is missing, and what will follow from it."""
    version = last_version(store, context.recipe.name)
    further, yields = _expect(store, context, plan, version)
    work = _expect_work(context, plan, further)
    addresses = place_stages(context)
    stages = []
    for stage in STAGES:
        steps, rows = work.get(stage, (NOTHING, NOTHING))
        if steps.value:
            receipts = read_known(store, stage, plan.tally.receipts, version)
            address = addresses[stage]
            rate = fit_rate(describe_effort(address), address.models, receipts)
            stages.append(_cost_stage(stage, steps, rows, rate))
    known = [each for each in stages if each.seconds is not None]
    compute = sum((each.seconds for each in known if each.seconds), NOTHING)
    own = None if plan.complete or version is None else expect_version(version, further.accepted, store.is_local)
    accelerated = [each for each in known if each.device not in (None, "cpu")]
    return Estimate(
        stages=stages,
        images=work.get("samples", (NOTHING, NOTHING))[1],
        accepted=further.accepted,
        rounds=further.rounds,
        yields=yields,
        compute=compute,
        wall=expect_wall(known, workers),
        workers=workers,
        accelerator=sum(((each.seconds or NOTHING) + exactly(each.load) for each in accelerated), NOTHING),
        bytes=sum((each.bytes for each in known if each.bytes), own or NOTHING),
        version_bytes=own,
        prices=prices,
        unknown=[each.stage for each in stages if each.seconds is None],
    )


def expect_wall(stages: Sequence[StageCost], workers: int) -> Interval:
    """Seconds from start to end: between perfect overlap of `workers` threads and none at all.

    What needs the drawing model runs one at a time; everything else overlaps with it as far as there are workers.
    """
    everything, alone, load = NOTHING, NOTHING, sum(stage.load for stage in stages)
    for stage in stages:
        assert stage.seconds is not None
        everything += stage.seconds
        alone += stage.seconds if stage.stage in ONE_AT_A_TIME else NOTHING
    best = [max(whole / workers, serial) for whole, serial in zip(_bounds(everything), _bounds(alone), strict=True)]
    return Interval((best[0] + everything.value) / 2 + load, best[1] + load, everything.high + load)


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


def _expect(store: Store, context: BuildContext, plan: Plan, version: Dataset | None) -> tuple[Further, list[Yield]]:
    """The rounds that follow. None do where the selection is done or prompts are still to be written by a model."""
    tally, wanted = plan.tally, exactly(plan.wanted)
    over = plan.complete or any(stage in tally.expected for stage in ("augmented", "shard_plan", "shards"))
    prompts = None if over else find_prompts(store, context)
    if prompts is None:
        return Further(NOTHING, NOTHING, wanted, exactly(1)), []
    first = {name: shape_round(context, prompts[name], size)[0] for name, size in first_sizes(context.recipe).items()}
    addresses = place_stages(context)
    verdicts = read_known(store, "verdicts", tally.receipts, version)
    selection = describe_effort(addresses["selection"]).like
    selections = [
        each
        for each in read_known(store, "selection", tally.receipts, version)
        if each.effort and each.effort.like == selection
    ]
    yields = find_yields(context, describe_effort(addresses["samples"]).like, verdicts)
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
    if isinstance(context.recipe.engine, NaturalInversionEngine):
        runs = further.partitions.scale(1 / len(context.recipe.concepts))
        work["inversions"] = _add(work.get("inversions"), runs, further.images)
    reached = set(plan.tally.expected)
    images = exactly(plan.images) + further.images
    if not {"augmented", "shard_plan"} & reached:
        work["selection"] = (further.rounds, images)
    copies = 1
    if context.recipe.augmentation is not None:
        copies += context.recipe.augmentation.copies
        if "augmented" not in reached:
            planned = next((s.missing + s.finished for s in plan.stages if s.stage == "samples"), 0)
            work["augmented"] = (exactly(planned) + further.partitions, further.accepted)
    packed = further.accepted.scale(copies)
    if "shard_plan" not in reached:
        work["shard_plan"] = (exactly(1), packed)
    if "shards" not in reached:
        work["shards"] = (_count_shards(context, packed), packed)
    return {stage: both for stage, both in work.items() if both[0].high > 0}


def _add(known: tuple[Interval, Interval] | None, steps: Interval, rows: Interval) -> tuple[Interval, Interval]:
    before = known or (NOTHING, NOTHING)
    return before[0] + steps, before[1] + rows


def _count_shards(context: BuildContext, samples: Interval) -> Interval:
    """Each split is packed on its own, so that it has a shard at least."""
    shares, most = [share for share in context.recipe.splits.values() if share > 0], context.recipe.sharding.max_samples
    return Interval(*(float(sum(-(-rows * share // most) for share in shares)) for rows in _bounds(samples)))


def place_stages(context: BuildContext) -> Mapping[str, Address]:
    """An address of each stage that this recipe has, with its settings and models but without samples."""
    recipe, none = context.recipe, Receipt(
        stage="", fingerprint="", part=0, label="", uri="", sha256="", rows=0, bytes=0
    )  # fmt: skip
    concept = recipe.concepts[0].name
    job = PartitionJob(build=context, concept=concept, attempt=0, source="", part=0, samples=())
    shard = write_shards.ShardJob(
        split="", number=0, rows=0, tar_bytes=0, content="", plan=none, partitions={}
    )  # fmt: skip
    found = {
        "prompts": expand_prompts.locate(context, concept),
        "samples": synthesize.locate(job, EngineInputs()),
        "masks": annotate_masks.locate(job, none),
        "verdicts": filter_quality.locate(job, none, none),
        "selection": select_samples.locate(context, []),
        "augmented": augment_samples.locate(job, none, none, []),
        "shard_plan": write_shards.locate_plan(context, none, []),
        "shards": write_shards.locate(context, shard),
    }
    if isinstance(recipe.engine, SearchEngine):
        found["aims"] = aim_search.locate(job)
        found["seeds"] = find_seeds.locate(job, EngineInputs())
    if isinstance(recipe.engine, NaturalInversionEngine):
        inversion = InversionJob(build=context, attempt=0, source="", part=0, places=())
        found["inversions"] = invert_teacher.locate(inversion)
    return found
