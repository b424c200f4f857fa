"""Where the stages of a recipe would lie, without samples: their settings and models, by which like work is found."""

from collections.abc import Mapping

from tailforge.schemas.jobs import BuildContext, InversionJob, PartitionJob
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.schemas.settings.engines import SearchEngine
from tailforge.schemas.settings.inversion import NaturalInversionEngine
from tailforge.tasks.artifacts.contract import Address
from tailforge.tasks.stages import aims as aim_search
from tailforge.tasks.stages import augmented as augment_samples
from tailforge.tasks.stages import inversions as invert_teacher
from tailforge.tasks.stages import masks as annotate_masks
from tailforge.tasks.stages import prompts as expand_prompts
from tailforge.tasks.stages import samples as synthesize
from tailforge.tasks.stages import seeds as find_seeds
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
    if isinstance(recipe.engine, SearchEngine):
        found["aims"] = aim_search.locate(job)
        found["seeds"] = find_seeds.locate(job, EngineInputs())
    if isinstance(recipe.engine, NaturalInversionEngine):
        inversion = InversionJob(build=context, attempt=0, source="", part=0, places=())
        found["inversions"] = invert_teacher.locate(inversion)
    return found
