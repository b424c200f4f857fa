"""Separate the things of an image into instances, each with a confidence.

The paper on attention masks (Free-ATM, arXiv 2308.06739) has no instances. All choices here are ours, and were made on
renders of the workshop. An instance is a connected component of one category, whichever of its words claims the pixels.

Attention alone cannot separate objects that touch. A component shows several objects if it falls apart while the level
of its soft map rises: two parts then hold at least `APART` of its pixels each. It becomes a crowd, as COCO calls it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tailforge.tasks.methods.masks.components import Region, split_components
from tailforge.tasks.methods.masks.confidence import estimate_instance
from tailforge.tasks.methods.masks.levels import count_levels, split_levels

APART = 0.25
STEPS = 8  # levels to try, equally many pixels apart

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Claim:
    """The pixels of one word of a thing: its soft map and its region, [H, W] each."""

    category: int
    soft: Floats
    region: Region


@dataclass(frozen=True)
class Instance:
    """One object, or several that touch (`crowd`). `word`: position of its word. `region`: [H, W].

    `confidence`: expected intersection over union with one true object of the category, 0..1.
    """

    word: int
    region: Region
    confidence: float
    crowd: bool = False


def find_instances(claims: Sequence[Claim], least: float) -> list[Instance]:
    """Return the instances of things, in the order of the categories and then from the top left.

    Components with a confidence below `least` are left out. The most confident one of a category always stays.
    """
    found: list[Instance] = []
    for category in dict.fromkeys(claim.category for claim in claims):
        # Components of all words of the category together.
        own = [place for place, claim in enumerate(claims) if claim.category == category]
        whole = np.any([claims[place].region for place in own], axis=0)
        candidates = [_describe(claims, own, component) for component in split_components(whole)]
        # The confident ones, and in any case the best.
        best = max(candidates, key=lambda each: each.confidence, default=None)
        found += [each for each in candidates if each is best or each.confidence >= least]
    return found


def _describe(claims: Sequence[Claim], own: Sequence[int], component: Region) -> Instance:
    """Return the instance of a component [H, W] that the words at the places `own` claim."""
    # The word with most of its pixels names the instance.
    word = max(own, key=lambda place: np.count_nonzero(claims[place].region & component))
    confidence = estimate_instance(*measure_component(claims, word, component))
    # Where two words of the category meet is no valley.
    highest = np.max([claims[place].soft for place in own], axis=0)
    return Instance(word, component, confidence, falls_apart(highest, component))


def measure_component(claims: Sequence[Claim], word: int, component: Region) -> tuple[float, float, float]:
    """Return separability, area and rivalry of a component [H, W] of a word; see `estimate_instance`."""
    soft = claims[word].soft
    separability = split_levels(count_levels(soft))[1]

    others = [claim.soft for claim in claims if claim.category != claims[word].category]
    return separability, float(component.mean()), measure_rivalry(soft, others, component)


def measure_rivalry(soft: Floats, others: Sequence[Floats], region: Region) -> float:
    """Return the mean soft map of words of other categories over that of the own word, in a region; [H, W] each.

    0 without other words. Words that attend to the same pixels make their category doubtful.
    """
    rivals = [each[region] for each in others]
    return float(np.max(rivals, axis=0).mean() / soft[region].mean()) if rivals and region.any() else 0.0


def falls_apart(soft: Floats, region: Region) -> bool:
    """Return whether a region [H, W] of a soft map [H, W] falls into large parts while its level rises.

    Levels above the median are not needed: two parts that hold `APART` each hold half of the region.
    """
    # Only the region's box.
    box = ndimage.find_objects(region.astype(np.uint8))[0]
    soft, region, area = soft[box], region[box], np.count_nonzero(region)
    for level in np.quantile(soft[region], np.arange(1, STEPS + 1) / (2 * STEPS)):
        labels, _ = ndimage.label(region & (soft > level), np.ones((3, 3)))
        if np.count_nonzero(np.bincount(labels.ravel())[1:] >= APART * area) >= 2:
            return True
    return False
