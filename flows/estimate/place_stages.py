"""Where the stages of a recipe would lie, without samples: their settings and models, by which like work is found."""

from collections.abc import Mapping

from tailforge.flows.build.order import PREPARING
from tailforge.schemas.jobs import BuildContext, InversionJob, PartitionJob
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.tasks.artifacts.contract import Address
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.stages import augmented as augment_samples
from tailforge.tasks.stages import masks as annotate_masks
from tailforge.tasks.stages import prompts as expand_prompts
from tailforge.tasks.stages import samples as synthesize
from tailforge.tasks.stages import selection as select_samples
from tailforge.tasks.stages import shards as write_shards
from tailforge.tasks.stages import verdicts as filter_quality


def place_stages(context: BuildContext) -> Mapping[str, Address]:
    """An address of each stage that this recipe has, with its settings and models but without samples."""
    recipe = context.recipe
    none = Receipt(stage="", fingerprint="", part=0, label="", uri="", sha256="", rows=0, bytes=0)
    concept = recipe.concepts[0].name
    job = PartitionJob(build=context, concept=concept, attempt=0, source="", part=0, samples=())
    shard = write_shards.ShardJob(split="", number=0, rows=0, tar_bytes=0, content="", plan=none, partitions={})
    found = {
        "prompts": expand_prompts.locate(context, concept),
        "samples": synthesize.locate(job, EngineInputs()),
        "masks": annotate_masks.locate(job, none),
        "verdicts": filter_quality.locate(job, none, none),
        "selection": select_samples.locate(context, []),
        "augmented": augment_samples.locate(job, none, none, [], {}),
        "shard_plan": write_shards.locate_plan(context, none, []),
        "shards": write_shards.locate(context, shard),
    }
    engine = engine_of(recipe)
    for each in engine.preparations:
        found[each.stage] = PREPARING[each.stage].locate(job, *each.read(EngineInputs()))
    if engine.round is not None:
        run = InversionJob(build=context, attempt=0, source="", part=0, places=())
        found[engine.round.stage] = PREPARING[engine.round.stage].locate(run)
    return found
