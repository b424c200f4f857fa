"""Draw the batches of an arm: which training images a step sees.

A pool holds the real training images first, then the synthetic ones. Every draw of step k comes from (seed, k), and the
draws of classes and of real images do not depend on the share. So arms with one seed see the same real images wherever
none is replaced by a synthetic one.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.evaluation import Arm
from tailforge.tasks.methods.classifiers.train import draw_rows

BALANCED_STREAM = 7  # separates these random numbers from those of `draw_rows`

Rows = NDArray[np.int64]
Shown = NDArray[np.bool_]
RowsAt = Callable[[int], Rows]


def plan_draws(arm: Arm, real: Shown, synthetic: Shown, rare: Sequence[int], batch: int, seed: int) -> RowsAt:
    """Return the function that maps a step to the rows [batch] of its images in the pool.

    `real` and `synthetic`: whether an image shows a class, bool [images, classes]. `rare`: classes that may be
    synthetic beside real.
    """
    # Natural frequencies: every epoch holds each image once, or a rare class's images several times.
    if arm.sampling != "balanced":
        order = repeat_rare(real, rare) if arm.sampling == "copies" else np.arange(len(real))
        return lambda step: order[draw_rows(len(order), batch, seed, step)]

    # Balanced classes: an arm without real images may draw every class of the version.
    shown = real if arm.real else real[:0]
    allowed = np.isin(np.arange(real.shape[1]), np.array(rare, np.int64)) | (not arm.real)
    pools = _list_pools(shown, synthetic & allowed)
    return lambda step: draw_balanced(pools, arm.share if arm.real else 1.0, batch, seed, step)


def repeat_rare(shown: Shown, rare: Sequence[int]) -> Rows:
    """Return rows of the images that show classes, bool [images, classes]; those of rare classes come several times.

    A rare class is repeated until it is as frequent as the median of the other classes, which is our choice.
    """
    # The last repetition may hold a part of the class only.
    counts = shown.sum(0)
    others = [count for each, count in enumerate(counts) if count and each not in rare] or [int(counts.max())]
    target = int(np.median(others))
    parts = [np.arange(len(shown))]
    for each in rare:
        own = np.flatnonzero(shown[:, each])
        if len(own):
            parts.append(np.resize(own, max(target - len(own), 0)))
    return np.concatenate(parts)


def draw_balanced(pools: Sequence[tuple[Rows, Rows]], share: float, batch: int, seed: int, step: int) -> Rows:
    """Return the rows [batch] of a step: a class at random, then one of its images.

    `pools`: rows of real and of synthetic images that show a class, int64 [images], per class. A class with both draws
    a synthetic image with the probability `share`.
    """
    # Four numbers per image: its class, its real row, real or synthetic, its synthetic row.
    chances = np.random.default_rng((seed, BALANCED_STREAM, step)).random((4, batch))
    rows = np.empty(batch, np.int64)
    for place, (which, first, coin, second) in enumerate(chances.T):
        own, made = pools[int(which * len(pools))]
        synthetic = len(made) > 0 and (len(own) == 0 or coin < share)
        rows[place] = made[int(second * len(made))] if synthetic else own[int(first * len(own))]
    return rows


def _list_pools(real: Shown, synthetic: Shown) -> list[tuple[Rows, Rows]]:
    """Return the rows of real and of synthetic images per class that has any; the synthetic ones come second."""
    pools = [
        (np.flatnonzero(own), len(real) + np.flatnonzero(made)) for own, made in zip(real.T, synthetic.T, strict=True)
    ]
    return [pool for pool in pools if len(pool[0]) or len(pool[1])]
