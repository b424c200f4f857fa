"""Judge the images of one concept one by one: cheap scores first, then networks for the rest, then the mask.

CLIP score and concept margin are zero-shot readings of CLIP (Radford et al. 2021); the texts and gates are our choice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.settings.quality import Gate
from tailforge.tasks.methods.packing.png import decode_png
from tailforge.tasks.methods.planning.expand_prompts import indefinite_article
from tailforge.tasks.methods.quality.gates import CHEAP_GATES, CLIP_GATES, LABEL_GATES, MASK_GATES, first_failed_gate
from tailforge.tasks.methods.quality.image_scores import ImageScores, score_image

CHUNK = 32  # images decoded at once
CONCEPT_LOST = "concept_lost"
MARGIN = 0.1  # of a box's longer side, added around a crop

Vectors = NDArray[np.float32]
Verify = Callable[[Sequence[NDArray[np.uint8]]], Sequence[float]]  # a classifier's probability of the concept per image


class Scorer(Protocol):
    """Embeds images and texts as unit vectors; their dot product compares them."""

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> Vectors:
        """Return unit vectors [N, D] of N images [H, W, 3]."""

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors [N, D] of N texts."""


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
    keeps_concept: bool = True  # False if augmentation removed it


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
    measure = None if scorer is None else _clip_scores(scorer, items, concept, concepts, references)
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
                    made[place][name] = _as_stored(probability)

        # The first missed gate is the reason.
        for place in alive:
            made[place]["reason"] = first_failed_gate(gates, [*CLIP_GATES, *LABEL_GATES, *MASK_GATES], made[place])
        rows += made
    return [row | {"accepted": row["reason"] is None} for row in rows]


def _score_row(item: Item, scores: ImageScores | None) -> dict[str, Any]:
    return {
        "sample_id": item.sample_id,
        "status": "failed" if scores is None else "ok",
        "error": (item.error or "no image") if scores is None else None,
        **{name: scores and _as_stored(getattr(scores, name)) for name in CHEAP_GATES},
        "clip_score": None,
        "concept_margin": None,
        "reference_similarity": None,
        "crop_score": None,
        "teacher_agreement": None if item.teacher_agreement is None else _as_stored(item.teacher_agreement),
        "verifier_agreement": None,
        "mask_area": scores and _as_stored(item.mask_area),
        "mask_confidence": None if scores is None or item.mask_confidence is None else _as_stored(item.mask_confidence),
        "phash": scores and scores.phash,
    }


def _cheap_reason(
    item: Item, row: Mapping[str, Any], scores: ImageScores | None, gates: Mapping[str, Gate]
) -> str | None:
    if scores is None:
        return "failed"
    if scores.is_blank:
        return "blank"
    return first_failed_gate(gates, CHEAP_GATES, row) if item.keeps_concept else CONCEPT_LOST


def _clip_scores(
    scorer: Scorer,
    items: Sequence[Item],
    concept: str,
    concepts: Sequence[str],
    references: Vectors | None,
) -> Callable[[Sequence[NDArray[np.uint8]], Sequence[Item]], list[dict[str, float | None]]]:
    """Return a function (images, their items) -> CLIP scores; every distinct text is embedded once."""
    # Texts: every caption, and one name per concept for the margin.
    captions = list(dict.fromkeys(item.caption for item in items))
    by_caption = dict(zip(captions, scorer.embed_texts(captions), strict=True))
    names = scorer.embed_texts([f"a photo of {indefinite_article(name)} {name}" for name in concepts])
    own = list(concepts).index(concept)

    def measure(images: Sequence[NDArray[np.uint8]], shown: Sequence[Item]) -> list[dict[str, float | None]]:
        # Images of a chunk against all texts at once.
        vectors = scorer.embed_images(images)
        cosines = vectors @ names.T
        rivals = np.delete(cosines, own, axis=1)
        crops = _score_crops(scorer, images, shown, names[own])
        return [
            {
                "clip_score": _as_stored(vectors[i] @ by_caption[item.caption]),
                "concept_margin": _as_stored(cosines[i, own] - rivals[i].max()) if rivals.shape[1] else None,
                "reference_similarity": None if references is None else _as_stored((vectors[i] @ references.T).max()),
                "crop_score": crops[i],
            }
            for i, item in enumerate(shown)
        ]

    return measure


def _score_crops(
    scorer: Scorer, images: Sequence[NDArray[np.uint8]], shown: Sequence[Item], name: Vectors
) -> list[float | None]:
    """Return the cosine of each image's box with the concept's name; None without a box."""
    # Only images with a box have a crop.
    boxes = [(place, item.box) for place, item in enumerate(shown) if item.box is not None]
    scores: list[float | None] = [None] * len(images)
    if boxes:
        vectors = scorer.embed_images([cut_square(images[place], box) for place, box in boxes])
        for (place, _), vector in zip(boxes, vectors, strict=True):
            scores[place] = _as_stored(vector @ name)
    return scores


def cut_square(image: NDArray[np.uint8], box: Sequence[float]) -> NDArray[np.uint8]:
    """Cut the square around a box (x, y, width, height) with a margin out of an image [H, W, 3]."""
    # The square may reach over the image's border, where it is cut off.
    x, y, width, height = box
    half = max(width, height) * (0.5 + MARGIN)
    middle = (y + height / 2, x + width / 2)
    (top, left), (bottom, right) = ([round(m + side) for m in middle] for side in (-half, half))
    return image[max(top, 0) : max(bottom, 1), max(left, 0) : max(right, 1)]


def _as_stored(score: float) -> float:
    """Rounded as the table stores it, so that a gate decides what the published score shows."""
    return float(np.float32(score))
