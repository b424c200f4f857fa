"""Compute the CLIP scores of images: captions, concepts, references, and the concept's box.

CLIP score and concept margin are zero-shot readings of CLIP (Radford et al. 2021); the texts are our choice.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.planning.expand_prompts import indefinite_article
from tailforge.tasks.methods.quality.pixel_scores import as_stored

MARGIN = 0.1  # of a box's longer side, added around a crop

Vectors = NDArray[np.float32]


class Scorer(Protocol):
    """Embeds images and texts as unit vectors; their dot product compares them."""

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> Vectors:
        """Return unit vectors [N, D] of N images [H, W, 3]."""

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors [N, D] of N texts."""


class Captioned(Protocol):
    """An image's caption and the box of its concept."""

    @property
    def caption(self) -> str:
        """Return the caption."""

    @property
    def box(self) -> Sequence[float] | None:
        """Return x, y, width and height of the concept in pixels; None without a mask."""


def open_clip_scores(
    scorer: Scorer,
    items: Sequence[Captioned],
    concept: str,
    concepts: Sequence[str],
    references: Vectors | None,
) -> Callable[[Sequence[NDArray[np.uint8]], Sequence[Captioned]], list[dict[str, float | None]]]:
    """Return a function (images [H, W, 3], their items) -> CLIP scores; embed every distinct text once.

    `references`: unit vectors [M, D] of photographs of the concept.
    """
    # Texts: every caption, and one name per concept for the margin.
    captions = list(dict.fromkeys(item.caption for item in items))
    by_caption = dict(zip(captions, scorer.embed_texts(captions), strict=True))
    names = scorer.embed_texts([f"a photo of {indefinite_article(name)} {name}" for name in concepts])
    own = list(concepts).index(concept)

    def measure(images: Sequence[NDArray[np.uint8]], shown: Sequence[Captioned]) -> list[dict[str, float | None]]:
        # Images of a chunk against all texts at once.
        vectors = scorer.embed_images(images)
        cosines = vectors @ names.T
        rivals = np.delete(cosines, own, axis=1)
        crops = _score_crops(scorer, images, shown, names[own])
        return [
            {
                "clip_score": as_stored(vectors[i] @ by_caption[item.caption]),
                "concept_margin": as_stored(cosines[i, own] - rivals[i].max()) if rivals.shape[1] else None,
                "reference_similarity": None if references is None else as_stored((vectors[i] @ references.T).max()),
                "crop_score": crops[i],
            }
            for i, item in enumerate(shown)
        ]

    return measure


def _score_crops(
    scorer: Scorer, images: Sequence[NDArray[np.uint8]], shown: Sequence[Captioned], name: Vectors
) -> list[float | None]:
    """Return the cosine of each image's box with the concept's name; None without a box."""
    # Only images with a box have a crop.
    boxes = [(place, item.box) for place, item in enumerate(shown) if item.box is not None]
    scores: list[float | None] = [None] * len(images)
    if boxes:
        vectors = scorer.embed_images([cut_square(images[place], box) for place, box in boxes])
        for (place, _), vector in zip(boxes, vectors, strict=True):
            scores[place] = as_stored(vector @ name)
    return scores


def cut_square(image: NDArray[np.uint8], box: Sequence[float]) -> NDArray[np.uint8]:
    """Cut the square around a box (x, y, width, height) with a margin out of an image [H, W, 3]."""
    # The square may reach over the image's border, where it is cut off.
    x, y, width, height = box
    half = max(width, height) * (0.5 + MARGIN)
    middle = (y + height / 2, x + width / 2)
    (top, left), (bottom, right) = ([round(m + side) for m in middle] for side in (-half, half))
    return image[max(top, 0) : max(bottom, 1), max(left, 0) : max(right, 1)]
