"""Judge the images of one concept one by one: cheap scores first, then networks for the rest, then the mask.

The gates are our choice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.settings.gates import GATES, Gate, gates_of
from tailforge.tasks.methods.packing.png import decode_png
from tailforge.tasks.methods.quality.clip_scores import Scorer, Vectors, open_clip_scores
from tailforge.tasks.methods.quality.gates import first_failed_gate
from tailforge.tasks.methods.quality.pixel_scores import PixelScores, as_stored, score_image

CHUNK = 32  # images decoded at once
CHEAP_GATES = gates_of("pixels")
COSTLY_GATES = tuple(name for name in GATES if name not in CHEAP_GATES)
CONCEPT_LOST, NOTHING_DRAWN = "concept_lost", "nothing_drawn"

Verify = Callable[[Sequence[NDArray[np.uint8]]], Sequence[float]]  # a classifier's probability of the concept per image


@dataclass(frozen=True)
class Item:
    """A sample before its verdict; `png` is None if its synthesis failed."""

    sample_id: str
    caption: str
    png: bytes | None
    error: str | None
    mask_area: float
    mask_confidence: float | None  # None if it cannot be measured
    box: Sequence[float] | None = None  # of the concept: x, y, width, height in pixels
    teacher_agreement: float | None = None  # if a classifier made the image
    lost: str | None = None  # reason of a rejection if augmentation removed the concept, or nothing was drawn


def judge_images(
    items: Sequence[Item],
    gates: Mapping[str, Gate],
    concept: str,
    concepts: Sequence[str],
    scorer: Scorer | None,
    references: Vectors | None = None,
    verify: Verify | None = None,
    agree: Verify | None = None,
    decode: Callable[[bytes], NDArray[np.uint8]] = decode_png,
) -> list[dict[str, Any]]:
    """Return rows of VERDICTS. Only `min` and `max` of the gates count here; quantiles need the whole build.

    A score that was not computed is None. A failed sample has no scores. An image that a cheaper gate rejected, or a
    missing network, gives no scores of CLIP and the verifier. The margin needs another concept in `concepts`, the
    similarity needs `references` (unit vectors of photographs), and the crop's score needs a box. `agree` is the
    teacher, if the item's own agreement is about other pixels. `decode` gives the pixels [H, W, 3] to judge.
    """
    measure = None if scorer is None else open_clip_scores(scorer, items, concept, concepts, references)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(items), CHUNK):
        # Cheap scores of every image, from the pixels alone.
        chunk = items[start : start + CHUNK]
        images = [None if item.png is None else decode(item.png) for item in chunk]
        cheap = [None if image is None else score_image(image) for image in images]
        made = [_score_row(item, scores) for item, scores in zip(chunk, cheap, strict=True)]
        for item, row, scores in zip(chunk, made, cheap, strict=True):
            # A missed cheap gate spares the networks the image.
            row["reason"] = _cheap_reason(item, row, scores, gates)

        # Networks judge only the images that passed the cheap gates.
        alive = [place for place, row in enumerate(made) if row["reason"] is None]
        shown = [image for image in (images[place] for place in alive) if image is not None]
        if measure is not None and alive:
            for place, clip in zip(alive, measure(shown, [chunk[place] for place in alive]), strict=True):
                made[place] |= clip
        for name, ask in (("verifier_agreement", verify), ("teacher_agreement", agree)):
            if ask is not None and alive:
                for place, probability in zip(alive, ask(shown), strict=True):
                    made[place][name] = as_stored(probability)

        # The first missed gate is the reason.
        for place in alive:
            made[place]["reason"] = first_failed_gate(gates, COSTLY_GATES, made[place])
        rows += made
    return [row | {"accepted": row["reason"] is None} for row in rows]


def _score_row(item: Item, scores: PixelScores | None) -> dict[str, Any]:
    return {
        "sample_id": item.sample_id,
        "status": "failed" if scores is None else "ok",
        "error": (item.error or "no image") if scores is None else None,
        **{name: scores and as_stored(getattr(scores, name)) for name in CHEAP_GATES},
        "clip_score": None,
        "concept_margin": None,
        "reference_similarity": None,
        "crop_score": None,
        "teacher_agreement": None if item.teacher_agreement is None else as_stored(item.teacher_agreement),
        "verifier_agreement": None,
        "mask_area": scores and as_stored(item.mask_area),
        "mask_confidence": None if scores is None or item.mask_confidence is None else as_stored(item.mask_confidence),
        "phash": scores and scores.phash,
    }


def _cheap_reason(
    item: Item, row: Mapping[str, Any], scores: PixelScores | None, gates: Mapping[str, Gate]
) -> str | None:
    if scores is None:
        return "failed"
    if scores.is_blank:
        return "blank"
    return item.lost or first_failed_gate(gates, CHEAP_GATES, row)
