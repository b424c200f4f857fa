"""Find the regions of images: from masks, or random boxes of equal area as the control. Our own choices.

Area 0 of an image is its background, stuff included; the others are its things, by rising category. All pixels of a
category are one region, since attention cannot separate two objects of one word. Ignored pixels are in no region.
"""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tailforge.tasks.methods.masks.codec import IGNORE, Mask

VERSION = "regions.1"
BACKGROUND, ABSENT = 0, -1
ASPECT = 2.0  # boxes are at most this many times wider than high, or higher than wide

Areas = NDArray[np.bool_]


@dataclass(frozen=True)
class Regions:
    """Regions of N images: `areas` [N, R, H, W], `nouns` int64 [N, R], `scores` float32 [N, R].

    `scores` is the confidence of each area. A noun is a category, BACKGROUND, or ABSENT for the empty areas of an image
    with fewer things than another.
    """

    areas: Areas
    nouns: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.areas)


def split_masks(masks: Sequence[Mask], things: Collection[int], scores: Sequence[Mapping[int, float]]) -> Regions:
    """Split masks of one size into regions; `things`: values that are things; `scores` by value, by default 1."""
    # All images get as many areas as the image with most things; spare areas stay empty.
    present = [sorted(set(np.unique(mask).tolist()) & set(things)) for mask in masks]
    count = 1 + max(map(len, present))
    areas = np.zeros((len(masks), count, *masks[0].shape), bool)
    nouns = np.full((len(masks), count), ABSENT, np.int64)
    sure = np.ones((len(masks), count), np.float32)

    # Background first, then the things by rising value.
    for row, (mask, values) in enumerate(zip(masks, present, strict=True)):
        areas[row, 0], nouns[row, 0] = ~np.isin(mask, [*values, IGNORE]), BACKGROUND
        for place, value in enumerate(values, 1):
            areas[row, place], nouns[row, place] = mask == value, value
            sure[row, place] = scores[row].get(value, 1.0)
    return Regions(areas, nouns, sure)


def box_regions(regions: Regions, keys: Sequence[str]) -> Regions:
    """Replace every region of an object by a random box of equal area, decided by the image's key; scores become 1.

    Boxes of an image may overlap; its background is the part that no box covers.
    """
    areas = np.zeros_like(regions.areas)
    for row, key in enumerate(keys):
        # A hash of the key decides the boxes, in any batch.
        word = hashlib.blake2b(f"box/{key}".encode(), digest_size=8).digest()
        draws = np.random.default_rng(int.from_bytes(word, "little"))
        for place in range(1, areas.shape[1]):
            areas[row, place] = random_box(regions.areas[row, place], draws)
        areas[row, 0] = ~areas[row, 1:].any(axis=0)
    return replace(regions, areas=areas, scores=np.ones_like(regions.scores))


def random_box(region: Areas, draws: np.random.Generator) -> Areas:
    """Return a box anywhere in the image with exactly as many pixels as `region`, both [H, W].

    Few areas are a product of two suitable sides, so the last row of the box may be cut short.
    """
    # A random aspect, limited by the image's sides.
    height, width = region.shape
    area = int(region.sum())
    aspect = ASPECT ** draws.uniform(-1, 1)
    wide = min(max(round(math.sqrt(area * aspect)), math.ceil(area / height), 1), width)
    high = math.ceil(area / wide)

    # A random place, and as many pixels as the region, row by row.
    top, left = (int(draws.integers(room + 1)) for room in (height - high, width - wide))
    box = np.zeros_like(region)
    box[top : top + high, left : left + wide] = (np.arange(high * wide) < area).reshape(high, wide)
    return box


def surest_things(nouns: NDArray[np.int64], scores: NDArray[np.float32]) -> Tensor:
    """Return the confidence of each image's surest thing [B], 0 without one; `nouns`, `scores` [B, R]."""
    return torch.from_numpy(np.where(nouns > BACKGROUND, scores, 0).max(1))


def share_patches(areas: Areas, patch_px: int) -> Tensor:
    """Return the share of every patch's pixels inside each area: float32 [B, R, P] of [B, R, H, W], row by row."""
    return F.avg_pool2d(torch.from_numpy(areas).float(), patch_px).flatten(2)
