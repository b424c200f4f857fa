"""Regions of images: from masks, or as the control random boxes of equal area. Our own choices.

Area 0 of an image is its background, stuff included; the others are its things, by rising category. All pixels of a
category are one region, since attention does not tell two objects of one word apart. Ignored pixels are in none.
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
ASPECT = 2.0  # boxes are up to so many times wider than high, or higher than wide

Areas = NDArray[np.bool_]


@dataclass(frozen=True)
class Regions:
    """Of N images: `areas` [N, R, H, W], `nouns` int64 [N, R], `scores` float32 [N, R], how sure each area is.

    A noun is a category, BACKGROUND, or ABSENT for the empty areas of an image that has fewer things than another.
    """

    areas: Areas
    nouns: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.areas)


def split_masks(masks: Sequence[Mask], things: Collection[int], scores: Sequence[Mapping[int, float]]) -> Regions:
    """Regions of masks of one size; `things`: values that are things; `scores` of an image by value, by default 1."""
    present = [sorted(set(np.unique(mask).tolist()) & set(things)) for mask in masks]
    count = 1 + max(map(len, present))
    areas = np.zeros((len(masks), count, *masks[0].shape), bool)
    nouns = np.full((len(masks), count), ABSENT, np.int64)
    sure = np.ones((len(masks), count), np.float32)
    for row, (mask, values) in enumerate(zip(masks, present, strict=True)):
        areas[row, 0], nouns[row, 0] = ~np.isin(mask, [*values, IGNORE]), BACKGROUND
        for place, value in enumerate(values, 1):
            areas[row, place], nouns[row, place] = mask == value, value
            sure[row, place] = scores[row].get(value, 1.0)
    return Regions(areas, nouns, sure)


def box_regions(regions: Regions, keys: Sequence[str]) -> Regions:
    """Every region of an object as a random box of equal area, decided by the image's key; scores become 1.

    Boxes of an image may overlap; its background is what none of them covers.
    """
    areas = np.zeros_like(regions.areas)
    for row, key in enumerate(keys):
        word = hashlib.blake2b(f"box/{key}".encode(), digest_size=8).digest()
        draws = np.random.default_rng(int.from_bytes(word, "little"))
        for place in range(1, areas.shape[1]):
            areas[row, place] = random_box(regions.areas[row, place], draws)
        areas[row, 0] = ~areas[row, 1:].any(axis=0)
    return replace(regions, areas=areas, scores=np.ones_like(regions.scores))


def random_box(region: Areas, draws: np.random.Generator) -> Areas:
    """A box anywhere in the image with exactly as many pixels as `region`, both [H, W].

    Few areas are a product of two suitable sides, so the last row of the box is cut short where need be.
    """
    height, width = region.shape
    area = int(region.sum())
    aspect = ASPECT ** draws.uniform(-1, 1)
    wide = min(max(round(math.sqrt(area * aspect)), math.ceil(area / height), 1), width)
    high = math.ceil(area / wide)
    top, left = (int(draws.integers(room + 1)) for room in (height - high, width - wide))
    box = np.zeros_like(region)
    box[top : top + high, left : left + wide] = (np.arange(high * wide) < area).reshape(high, wide)
    return box


def surest_things(nouns: NDArray[np.int64], scores: NDArray[np.float32]) -> Tensor:
    """Confidence of each image's surest thing [B], 0 where it has none; `nouns`, `scores` [B, R], background first."""
    return torch.from_numpy(np.where(nouns > BACKGROUND, scores, 0).max(1))


def share_patches(areas: Areas, patch_px: int) -> Tensor:
    """Share of every patch's pixels that lie in an area: float32 [B, R, P] of [B, R, H, W]; patches row by row."""
    return F.avg_pool2d(torch.from_numpy(areas).float(), patch_px).flatten(2)
