"""Cut masks from attention maps or visible changes, for stage `masks`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from tailforge.schemas.errors import EngineError
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.settings.engine_settings import CHANGED
from tailforge.schemas.tables import MASKS
from tailforge.tasks.artifacts.contract import Made, read_table
from tailforge.tasks.artifacts.stage import Workplace
from tailforge.tasks.engines.drawing import drawing_engine
from tailforge.tasks.engines.work.drawing import choose_for_sample
from tailforge.tasks.engines.work.inpaint import agree_in_window
from tailforge.tasks.methods.inpainting.change import UNDRAWN, label_change
from tailforge.tasks.methods.masks.codec import describe_instance, encode_mask
from tailforge.tasks.methods.masks.confidence import Parts
from tailforge.tasks.methods.masks.instances import Instance
from tailforge.tasks.methods.masks.soft_masks import (
    Softened,
    Word,
    outline_words,
    pool_thresholds,
    soften_words,
)
from tailforge.tasks.methods.packing.arrays import decode_array
from tailforge.tasks.methods.packing.png import decode_png
from tailforge.tasks.methods.planning.samples import derive_seed
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.memory import within_memory
from tailforge.tasks.methods.sampling.plain import hold
from tailforge.tasks.methods.sampling.rendered import cut_batches
from tailforge.tasks.methods.sampling.renoised_attention import Captioned, Read, read_attention
from tailforge.tasks.models.generator_defaults import find_least_drawn
from tailforge.tasks.models.text_to_image import load_generator
from tailforge.tasks.report.provenance import read_origin

COLUMNS = ["sample_id", "status", "slots", "image"]
RECORDED = ["attention", "attention_agreement"]

Row = dict[str, Any]


def produce(workplace: Workplace, job: PartitionJob, samples: Receipt) -> Made:
    """Make the MASKS of one partition. Errors: ModelError, EngineError, StoreError."""
    return annotate_partition(job, read_table(workplace.store, samples, columns_for(job)))


def columns_for(job: PartitionJob) -> list[str]:
    """Return the columns of SAMPLES that the stage reads."""
    drawn = ["provenance"] if job.build.recipe.annotation.kind == CHANGED else []
    return [*COLUMNS, *drawn, *(RECORDED if job.build.annotator is None else ["prompt"])]


def annotate_partition(job: PartitionJob, samples: pa.Table) -> Made:
    """Return the MASKS of a partition. `samples`: the columns `columns_for` of SAMPLES.

    Errors: ModelError, EngineError.
    """
    settings, rows, clock = job.build.recipe.annotation, samples.to_pylist(), Clock()
    if settings.kind == CHANGED:
        with clock.phase("compute"):
            changed = [_label_drawing(job, row) | {"mask_source": settings.kind} for row in rows]
        return Made(pa.Table.from_pylist(changed, MASKS), dict(clock.seconds))

    read = _recorded(rows) if job.build.annotator is None else _run_annotator(job, rows, clock)
    with clock.phase("compute"):
        both = list(zip(rows, read, strict=True))
        softened = (_soften(job, row, own) for row, own in both if own is not None)
        thresholds = pool_thresholds(softened) if settings.threshold == "concept" else {}
        made = [_row(job, row, own, thresholds) | {"mask_source": settings.kind} for row, own in both]
    timings = {**clock.seconds, "compute": clock.seconds["compute"] + clock.seconds.get("attention", 0.0)}
    return Made(pa.Table.from_pylist(made, MASKS), timings)


def _recorded(rows: list[Row]) -> list[Read | None]:
    """Return the attention maps that the generator recorded, per row; None without a map."""
    return [
        None if row["attention"] is None else Read(decode_array(row["attention"]), row["attention_agreement"])
        for row in rows
    ]


def _run_annotator(job: PartitionJob, rows: list[Row], clock: Clock) -> list[Read | None]:
    """Return the attention maps of a text-to-image model on the finished images, in batches of the engine's size."""
    settings, found = job.build.recipe.annotation, job.build.annotator
    assert found is not None
    with clock.phase("load"):
        model = load_generator(found)

    def attend(batch: Sequence[int]) -> list[Read]:
        """Return the maps of some rows."""
        with clock.phase("attention"):
            return read_attention(model, [_caption(rows[place]) for place in batch], settings.noise, settings.draws)

    def give_up(place: int) -> Read:
        """Refuse a row that does not fit into memory alone."""
        sample_id = rows[place]["sample_id"]
        raise EngineError(
            f"sample {sample_id}: out of memory in annotation.model with this image alone; name a smaller model"
        )

    read: list[Read | None] = [None] * len(rows)
    sound = [place for place, row in enumerate(rows) if row["status"] == "ok"]
    for batch in cut_batches(sound, job.build.recipe.engine.batch_size):
        with hold(model, clock):
            for place, own in zip(batch, within_memory(attend, batch, give_up, model, "attention"), strict=True):
                read[place] = own
    return read


def _caption(row: Row) -> Captioned:
    """Return a row's image with its prompt and the words of its slots."""
    words = tuple((slot["start"], slot["end"]) for slot in row["slots"])
    return Captioned(decode_png(row["image"]), row["prompt"], words, derive_seed(row["sample_id"], "renoise"))


def _words(job: PartitionJob, row: Row) -> list[Word]:
    """Return the words to mask in a sample, the concept first, without slots that its prompt lacks."""
    recipe = job.build.recipe
    return [
        Word(place, recipe.category_id(name, slot["value"], job.concept), name in recipe.annotation.things)
        for name in sorted(recipe.annotation.slots, key=lambda name: name != "concept")
        for place, slot in enumerate(row["slots"])
        if slot["name"] == name
    ]


def _soften(job: PartitionJob, row: Row, read: Read) -> list[Softened]:
    """Return the soft mask of each word of a sample."""
    reader = job.build.annotator or job.build.require_generator()
    words, pixels, settings = _words(job, row), decode_png(row["image"]), job.build.recipe.annotation
    return soften_words(read.maps, words, pixels, settings, read.agreement, find_least_drawn(reader))


def _row(job: PartitionJob, row: Row, read: Read | None, thresholds: Mapping[int, float]) -> Row:
    """Return a row of MASKS."""
    if row["status"] != "ok":
        return _failed(row["sample_id"], "no image")
    if read is None or all(slot["name"] != "concept" for slot in row["slots"]):
        return _failed(row["sample_id"], "no attention map of the concept")

    softened = _soften(job, row, read)
    found = outline_words(softened, job.build.recipe.annotation, read.agreement, thresholds)
    concept, words = found.outlines[0], [each.word for each in softened]
    return {
        "sample_id": row["sample_id"],
        "status": "ok",
        "error": None,
        "mask": encode_mask(found.mask),
        "instances": [_describe_instance(job, row, words[each.word], each) for each in found.instances],
        **_score_columns(concept.parts, concept.confidence),
    }


def _label_drawing(job: PartitionJob, row: Row) -> Row:
    """Return a row of MASKS for a sample that was drawn into a photograph: the visible change in its regions."""
    if row["status"] != "ok":
        return _failed(row["sample_id"], "no image")

    threshold, annotation = drawing_engine(job.build).min_change, job.build.recipe.annotation
    chosen = choose_for_sample(job.build, job.concept, row["sample_id"])
    change = chosen.measure(decode_png(row["image"]))
    found = label_change(change, chosen.regions, threshold, annotation.min_component, annotation.max_hole)
    if found.is_empty:
        share = f"{100 * found.drawn:.1f} % of its regions changed by {threshold:.3g} or more"
        return _failed(row["sample_id"], f"{UNDRAWN}: {share}")

    # A generator's attention to the concept is a second opinion.
    mask = np.any(found.components, axis=0)
    agreement = None
    if row["attention"] is not None:
        attention = decode_array(row["attention"])
        frame = read_origin(row["provenance"])["frame"]
        agreement = agree_in_window(chosen, frame, attention, row["slots"], mask)
    category = job.build.recipe.class_id(job.concept) + 1
    return {
        "sample_id": row["sample_id"],
        "status": "ok",
        "error": None,
        "mask": encode_mask(np.where(mask, category, 0).astype(np.uint8)),
        "instances": [describe_instance(each, category, job.concept, found.confidence) for each in found.components],
        **_score_columns(replace(found.parts, agreement=agreement), found.confidence),
    }


def _describe_instance(job: PartitionJob, row: Row, word: Word, found: Instance) -> Row:
    """Return an entry of `instances`."""
    name, slot = job.build.recipe.categories[word.category - 1].name, row["slots"][word.row]["name"]
    return describe_instance(found.region, word.category, name, found.confidence, slot, found.crowd)


def _failed(sample_id: str, error: str) -> Row:
    """Return the row of a sample without mask."""
    return {
        "sample_id": sample_id,
        "status": "failed",
        "error": error,
        "mask": None,
        "instances": [],
        **_score_columns(Parts(), 0.0),
    }


def _score_columns(parts: Parts, confidence: float) -> Row:
    """Return the columns of a mask's scores."""
    return {
        "mask_area": parts.area,
        "mask_confidence": confidence,
        "mask_contrast": parts.contrast,
        "mask_separability": parts.separability,
        "mask_presence": parts.presence,
        "mask_components": parts.components,
        "mask_largest_share": parts.largest_share,
        "mask_agreement": parts.agreement,
    }
