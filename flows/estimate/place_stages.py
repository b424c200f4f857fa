"""Locate the stages of a recipe without samples. Settings and models in an address identify similar work."""

from collections.abc import Callable, Mapping
from typing import Any

from tailforge.flows.build.order import CHAIN
from tailforge.schemas.allocation import AllocationJob, JudgeJob, PreferenceJob
from tailforge.schemas.jobs import BuildContext, InversionJob, PartitionJob
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.tasks.artifacts.contract import Address
from tailforge.tasks.artifacts.stage import Stage
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.stages.adaptations import STAGE as ADAPTATIONS
from tailforge.tasks.stages.registry import STEERING, find_stage
from tailforge.tasks.stages.shards import ShardJob

NOTHING = Receipt(stage="", fingerprint="", part=0, label="", uri="", sha256="", rows=0, bytes=0)
# An empty value per type of a stage's arguments; sequences and mappings are empty.
EMPTY: Mapping[Any, Callable[[BuildContext], Any]] = {
    BuildContext: lambda build: build,
    str: lambda build: build.recipe.concepts[0].name,
    PartitionJob: lambda build: PartitionJob(
        build=build, concept=build.recipe.concepts[0].name, attempt=0, source="", part=0, samples=()
    ),
    InversionJob: lambda build: InversionJob(build=build, attempt=0, source="", part=0, places=()),
    JudgeJob: lambda build: JudgeJob(build=build, seed=0, label=""),
    AllocationJob: lambda build: AllocationJob(
        build=build, drawn=(), kept=(), recall=(), macro=(), validation=(), seconds=()
    ),
    PreferenceJob: lambda build: PreferenceJob(
        build=build, attempt=0, concepts=(), samples=(), first=0, selection=NOTHING, judge=NOTHING, verifier=NOTHING
    ),
    Receipt: lambda build: NOTHING,
    EngineInputs: lambda build: EngineInputs(),
    ShardJob: lambda build: ShardJob(split="", number=0, rows=0, tar_bytes=0, content="", plan=NOTHING, partitions={}),
}


def place_stages(context: BuildContext) -> Mapping[str, Address]:
    """Return an address per stage of this recipe, with its settings and models but without samples."""
    engine = engine_of(context.recipe)
    before = [ADAPTATIONS] if context.awaits_adaptation else []
    named = [each.stage for each in engine.preparations] + ([engine.round.stage] if engine.round else [])
    steering = STEERING if context.recipe.allocation.steers else ()
    return {stage.name: _locate(stage, context) for stage in (*before, *CHAIN, *steering, *map(find_stage, named))}


def _locate(stage: Stage, context: BuildContext) -> Address:
    return stage.locate(*(EMPTY[kind](context) if kind in EMPTY else {} for kind in stage.types))
