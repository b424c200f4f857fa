"""Renders of one part, of two different parts and of two of one part, whose true instances are known.

The attention is read as `make_renders` reads it, with the whole caption. `maps/ours` [N, K, h, w] has a row per word,
and `truth` [N, M, H, W] a mask per object. Twins are captioned as one part: a word of a prompt does not count objects.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.settings.annotation import Annotation
from tailforge.tasks.methods.masks.instances import Instance
from tailforge.tasks.methods.masks.soft_masks import Outlines, Softened, Word, outline_words, soften_words
from tailforge.tasks.methods.sampling.renoised_attention import Captioned
from tailforge.tasks.methods.workshop import (
    BALANCED,
    Pair,
    Scene,
    caption,
    render,
    render_pair,
    sample_pair,
    sample_scene,
    sample_twins,
)
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator
from tests.benchmarks.masks.images import OURS, Set, read_maps

KINDS = ("one part", "two different parts", "two of one part")
NOISE = 0.2  # that of renoised_attention
RIGHT = 0.5  # overlap from which an instance counts as right

Masks = NDArray[np.bool_]


class Objects(NamedTuple):
    """A captioned picture and its true objects [M, H, W]."""

    picture: Captioned
    truth: Masks


def make_objects(model: DiffusersGenerator, kind: str, seed: int, count: int) -> Set:
    """Pictures of one of KINDS with their attention and true masks."""
    made = [DRAW[kind](number, seed) for number in range(count)]
    return {
        "images": np.stack([each.picture.pixels for each in made]),
        "truth": np.stack([each.truth for each in made]),
        f"maps/{OURS}": read_maps(model, [each.picture for each in made], NOISE),
    }


def _draw_one(number: int, seed: int) -> Objects:
    scene = sample_scene(number, seed, BALANCED)
    made = render(scene)
    return _caption(made.image, scene, [scene.part], made.mask[None], number)


def _draw_different(number: int, seed: int) -> Objects:
    pair = sample_pair(number, seed, BALANCED)
    made = render_pair(pair)
    return _caption(made.image, pair, [pair.left.part, pair.right.part], made.masks, number)


def _draw_twins(number: int, seed: int) -> Objects:
    twins = sample_twins(number, seed, BALANCED)
    made = render_pair(twins)
    return _caption(made.image, twins.left, [twins.left.part], made.masks, number)


DRAW: dict[str, Callable[[int, int], Objects]] = dict(
    zip(KINDS, (_draw_one, _draw_different, _draw_twins), strict=True)
)


def _caption(image: NDArray[np.uint8], shown: Scene | Pair, parts: Sequence[str], truth: Masks, number: int) -> Objects:
    text = caption(shown)
    starts = (text.index(parts[0]), text.rindex(parts[-1]))[: len(parts)]
    words = tuple((start, start + len(part)) for start, part in zip(starts, parts, strict=True))
    return Objects(Captioned(image, text, words, number), truth)


def outline_objects(made: Set, **settings: Any) -> list[tuple[list[Softened], Outlines]]:
    """Our outlines of every picture; words of different parts are different categories."""
    asked, found = Annotation(**settings), []
    for maps, image in zip(made[f"maps/{OURS}"], made["images"], strict=True):
        words = [Word(row, row + 1) for row in range(len(maps))]
        softened = soften_words(maps.astype(np.float32), words, image, asked)
        found.append((softened, outline_words(softened, asked)))
    return found


def list_truths(truth: Masks, kind: str) -> list[Masks]:
    """The true objects [M, H, W] of each word of a picture."""
    return [each[None] for each in truth] if kind == KINDS[1] else [truth]


def join_words(found: Outlines) -> list[Instance]:
    """One instance per word with all its pixels, as versions had before."""
    return [
        Instance(place, each.region, each.confidence) for place, each in enumerate(found.outlines) if each.region.any()
    ]


def overlap_with(region: Masks, truths: Masks) -> NDArray[np.float64]:
    """Intersection over union of a region [H, W] with each true object [M, H, W]."""
    union = (region | truths).sum((-2, -1))
    return np.asarray((region & truths).sum((-2, -1)) / np.maximum(union, 1))


def score_objects(made: Set, kind: str, joined: bool) -> dict[str, float]:
    """Scores of the instances of all pictures; `joined`: one instance per word."""
    right, found, there, exact, crowds, merged, distances = 0, 0, 0, 0, 0, 0, []
    for truth, (_, outlines) in zip(made["truth"], outline_objects(made), strict=True):
        instances, truths = join_words(outlines) if joined else list(outlines.instances), list_truths(truth, kind)
        single = [each for each in instances if not each.crowd]
        matched = [match_objects([e.region for e in single if e.word == word], own) for word, own in enumerate(truths)]
        right, found, there = right + sum(matched), found + len(single), there + len(truth)
        exact += len(single) == len(truth)
        for each in instances:
            own = truths[each.word]
            distances.append((each.confidence, overlap_with(each.region, own).max()))
            crowds += each.crowd
            merged += each.crowd and ((each.region & own).sum((-2, -1)) > 0.5 * own.sum((-2, -1))).sum() > 1
    told, true = np.array(distances).T
    scores = {
        "object_recall": right / there,
        "object_precision": right / max(found, 1),
        "object_count": exact / len(made["truth"]),
        "mean_confidence": told.mean(),
        "mean_overlap": true.mean(),
        "crowds": crowds / len(distances),
    }
    return scores | ({"crowd_precision": merged / crowds} if crowds else {})


def match_objects(regions: Sequence[Masks], truths: Masks) -> int:
    """Number of true objects [M, H, W] that an instance of its own [H, W] meets with an overlap of RIGHT or more."""
    # Regions of one picture share no pixel, so no two of them reach one half of the same object.
    return sum(any(overlap_with(region, truth[None])[0] >= RIGHT for region in regions) for truth in truths)
