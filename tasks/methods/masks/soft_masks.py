"""Turn soft attention maps into masks of words, with scores of their trust (Free-ATM, arXiv 2308.06739).

The paper says that thresholded cross-attention gives masks; every choice here is ours. Words name things, with a shape
of their own, or stuff, which surrounds things. The order: resize the map along the image's edges, scale it to 0..1,
threshold it, let things compete, clean components and holes, fill stuff between things, mark the ignore band, separate
instances.

A thing's map is its attention. Stuff has little attention of its own, because a text's first token takes it. So its map
is its share of the attention to all words at a place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tailforge.schemas.settings.annotation import Annotation
from tailforge.tasks.methods.masks.codec import IGNORE, Mask
from tailforge.tasks.methods.masks.components import Region, fill_holes, keep_components
from tailforge.tasks.methods.masks.confidence import Parts, estimate_drawn, estimate_overlap
from tailforge.tasks.methods.masks.guided_filter import Pixels, filter_guided, resize
from tailforge.tasks.methods.masks.instances import Claim, Instance, find_instances, measure_rivalry
from tailforge.tasks.methods.masks.levels import Soft, count_levels, scale_map, split_levels

OTSU_RANGE = (0.3, 0.6)  # a word that fills the image, or hardly shows, moves Otsu's threshold out of this range
ABSENT = 1.0  # raw peak over raw mean of a flat map: the image does not show the word
# Of the guided filter; measured on the embedded generator, see docs/benchmarks/masks.md.
CELL = 4  # working pixels per cell of the attention's grid, at most as many as the image has
RADIUS = 3  # cells
EPSILON = 3e-4
STUFF = 0.5  # of the threshold: the share of stuff falls little except on things


@dataclass(frozen=True)
class Word:
    """A word to find: its row in the maps, and the value of its pixels in the mask."""

    row: int
    category: int
    thing: bool = True


@dataclass(frozen=True)
class Softened:
    """A word's map at image size: `soft` [height, width] in 0..1, and `presence`: raw peak over raw mean."""

    word: Word
    soft: NDArray[np.float32]
    presence: float

    @property
    def is_absent(self) -> bool:
        """Return whether the image does not show the word: its map is flat or empty."""
        return self.presence <= ABSENT or not self.soft.any()


@dataclass(frozen=True)
class Outline:
    """The region [height, width] of a word; empty if the word was not found. `rivalry`: see `measure_rivalry`."""

    word: Word
    region: Region
    parts: Parts = field(default_factory=Parts)
    rivalry: float = 0.0

    @property
    def confidence(self) -> float:
        """Return the expected overlap with the true mask, 0..1; 0 if the word was not found."""
        return estimate_overlap(self.parts, self.rivalry) if self.region.any() else 0.0


@dataclass(frozen=True)
class Outlines:
    """A mask [height, width] of 0, categories or 255 (ignore), and the `outlines` in the order of the words.

    `instances`: of things, then one per outline of stuff. Together they hold all pixels of the categories.
    """

    mask: Mask
    outlines: tuple[Outline, ...]
    instances: tuple[Instance, ...]


def soften_words(
    maps: Soft,
    words: Sequence[Word],
    pixels: Pixels,
    settings: Annotation,
    agreement: Sequence[float] | None = None,
    least_drawn: float = 0.0,
) -> list[Softened]:
    """Return the words' maps at the size of `pixels` [height, width, 3], from attention `maps` [K, h, w].

    A thing gets an empty map if its estimated chance to be drawn is below `least_drawn`. The estimate needs the
    `agreement` of early and late readings, by row of the maps; without it every thing keeps its map.
    """
    # The shares compare all words of the prompt, so they are taken before a word is chosen.
    asked = maps[[word.row for word in words]].astype(np.float32)
    shares = asked / np.maximum(asked.sum(0), np.finfo(np.float32).tiny)
    softened = [
        _soften(word, own if word.thing else share, pixels, settings)
        for word, own, share in zip(words, asked, shares, strict=True)
    ]
    if agreement is None or least_drawn == 0:
        return softened
    chances = [estimate_drawn(measure_levels(each.soft), agreement[each.word.row]) for each in softened]
    return [
        replace(each, soft=np.zeros_like(each.soft)) if each.word.thing and chance < least_drawn else each
        for each, chance in zip(softened, chances, strict=True)
    ]


def measure_levels(soft: Soft) -> float:
    """Return how well a map [h, w] in 0..1 falls into two levels: between-class over total variance, 0..1."""
    return split_levels(count_levels(soft))[1]


def _soften(word: Word, soft: Soft, pixels: Pixels, settings: Annotation) -> Softened:
    # Presence is taken from the raw map: scaling would turn an absent word into a convincing fake.
    presence = float(soft.max() / soft.mean()) if soft.mean() > 0 else 0.0

    # Scale to 0..1, bring to image size, scale again: both ways of resizing flatten the peak.
    scaled = scale_map(soft)
    if settings.refined:
        working = min(CELL * soft.shape[0], pixels.shape[0]), min(CELL * soft.shape[1], pixels.shape[1])
        radius = max(1, RADIUS * working[0] // soft.shape[0])
        scaled = scale_map(np.clip(filter_guided(scaled, pixels, working, radius, EPSILON), 0, 1))
    else:
        scaled = scale_map(resize(scaled, *pixels.shape[:2]))
    return Softened(word, scaled, presence)


def pool_thresholds(images: Iterable[Sequence[Softened]]) -> dict[int, float]:
    """Return Otsu's threshold of each category over all images together, absent words left out."""
    # One histogram per category.
    counts: dict[int, NDArray[np.int64]] = {}
    for words in images:
        for each in words:
            if not each.is_absent:
                category = each.word.category
                counts[category] = counts.get(category, 0) + count_levels(each.soft)
    return {category: _clip(split_levels(own)[0]) for category, own in counts.items()}


def outline_words(
    words: Sequence[Softened],
    settings: Annotation,
    agreement: Sequence[float] | None = None,
    thresholds: Mapping[int, float] | None = None,
) -> Outlines:
    """Return the masks of the words of one image.

    `agreement`: of early and late readings, by row of the maps. `thresholds`: by category, in place of Otsu's
    threshold of the image alone. If two things claim a pixel, the higher map wins it. If they differ by less than the
    ignore band, the pixel is ignored. So are components that are too weak for an instance.
    """
    # A claim [words, height, width] is how far a map exceeds its threshold; below 0 there is none.
    levels = [_threshold(each, settings, thresholds or {}) for each in words]
    claims = np.stack(
        [np.where(each.is_absent, -1, each.soft - level) for each, level in zip(words, levels, strict=True)]
    )

    # Competition first, then the doubtful pixels around and between the winners.
    settled = _settle(words, claims, settings)
    doubtful = _doubtful(words, claims, settled, settings.ignore_band)
    instances = _separate(words, [region & ~doubtful for region in settled], settings.min_instance)
    doubtful |= _find_weak(words, settled, instances)
    mask = np.where(doubtful, IGNORE, 0).astype(np.uint8)

    # Doubtful pixels belong to no word.
    outlines = []
    for place, (each, region) in enumerate(zip(words, settled, strict=True)):
        sure = region & ~doubtful
        mask[sure] = each.word.category
        rivals = [other.soft for other in words if _compete(each.word, other.word)]
        rivalry = measure_rivalry(each.soft, rivals, sure)
        outlines.append(Outline(each.word, sure, _measure(each, sure, agreement), rivalry))
        if not each.word.thing and sure.any():
            instances.append(Instance(place, sure, outlines[-1].confidence))
    return Outlines(mask, tuple(outlines), tuple(instances))


def _compete(one: Word, other: Word) -> bool:
    """Return whether two words are things of different categories."""
    return one.thing and other.thing and one.category != other.category


def _separate(words: Sequence[Softened], regions: Sequence[Region], least: float) -> list[Instance]:
    """Return the instances of things; `word` is a position among all words."""
    places = [place for place, each in enumerate(words) if each.word.thing]
    claims = [Claim(words[place].word.category, words[place].soft, regions[place]) for place in places]
    return [replace(each, word=places[each.word]) for each in find_instances(claims, least)]


def _find_weak(words: Sequence[Softened], regions: Sequence[Region], instances: Sequence[Instance]) -> Region:
    """Return the pixels [height, width] of things that no instance has."""
    things = [region for each, region in zip(words, regions, strict=True) if each.word.thing]
    blank = [np.zeros_like(regions[0])]
    weak: Region = np.any(blank + things, axis=0) & ~np.any(blank + [each.region for each in instances], axis=0)
    return weak


def _threshold(each: Softened, settings: Annotation, pooled: Mapping[int, float]) -> float:
    if settings.threshold == "concept":
        level = pooled.get(each.word.category, OTSU_RANGE[0])
    else:
        level = find_threshold(each.soft, settings.threshold)
    return level if each.word.thing else STUFF * level


def _settle(words: Sequence[Softened], claims: Soft, settings: Annotation) -> list[Region]:
    """Return one region per word: things first, then stuff on free pixels. No pixel is in two regions."""
    regions = [np.zeros(claims.shape[1:], np.bool_) for _ in words]
    taken = np.zeros(claims.shape[1:], np.bool_)
    for thing in (True, False):
        places = [place for place, each in enumerate(words) if each.word.thing is thing]
        if not places:
            continue

        # The highest map among the claims wins a pixel.
        heights = np.stack([words[place].soft for place in places])
        best = np.where(claims[places] >= 0, heights, -1).argmax(0)
        for turn, place in enumerate(places):
            region = (claims[place] >= 0) & (best == turn) & ~taken
            regions[place] = keep_components(region, settings.min_component)[0] if thing else region

        # Holes are filled after all things have their pixels, so that no thing fills another's.
        taken = np.any([taken, *(regions[place] for place in places)], axis=0)
        for place in places if thing else ():
            regions[place] = _close(regions[place], taken, settings.max_hole)
            taken = taken | regions[place]
    return regions


def _close(region: Region, taken: Region, max_hole: float) -> Region:
    """Fill a thing's pinholes on free pixels; a thing that fills the image becomes empty, as it has no outside."""
    closed = region | (fill_holes(region, max_hole * region.sum()) & ~taken)
    return np.zeros_like(region) if closed.all() else closed


def _doubtful(words: Sequence[Softened], claims: Soft, regions: Sequence[Region], band: float) -> Region:
    """Return the ignored pixels [height, width]: the band around things, and near ties of two things.

    The band holds free pixels just below a thing's threshold that touch its region. Around a dropped crumb, or around
    nothing, pixels are background like the crumb.
    """
    things = [place for place, each in enumerate(words) if each.word.thing and regions[place].any()]
    if band == 0 or not things:
        return np.zeros(claims.shape[1:], np.bool_)
    taken = np.any([regions[place] for place in things], axis=0)
    # Near misses around each thing, then near ties between two things.
    near = [_spread(regions[place], (claims[place] >= -band) & (claims[place] < 0) & ~taken) for place in things]
    tied = _tie([words[place] for place in things], claims[things], band) & taken
    doubtful: Region = np.any([*near, tied], axis=0)
    return doubtful


def _spread(region: Region, band: Region) -> Region:
    """Return the part of a band [height, width] connected to a region, corners included."""
    reached: Region = ndimage.binary_propagation(region, np.ones((3, 3)), region | band)
    return reached & band


def _tie(things: Sequence[Softened], claims: Soft, band: float) -> Region:
    """Return where the two highest things that claim a pixel differ in category and by less than the band."""
    heights = np.where(claims >= 0, np.stack([each.soft for each in things]), -1)
    categories = np.array([each.word.category for each in things])
    # The best other category, so that two words of one category never tie.
    best = heights.argmax(0)
    other = np.where(categories[:, None, None] == categories[best], -1, heights).max(0)
    tied: Region = (other >= 0) & (heights.max(0) - other < band)
    return tied


def _measure(each: Softened, region: Region, agreement: Sequence[float] | None) -> Parts:
    # An empty region has no measurements but its presence.
    if not region.any():
        return Parts(presence=each.presence)
    _, areas = keep_components(region, 0.0)

    # Each part is one clue to the overlap with the true mask; see confidence.py.
    outside = each.soft[~region]
    return Parts(
        area=float(region.mean()),
        contrast=float(each.soft[region].mean() - (outside.mean() if outside.size else 0.0)),
        separability=measure_levels(each.soft),
        presence=each.presence,
        components=len(areas),
        largest_share=max(areas) / sum(areas),
        agreement=None if agreement is None else agreement[each.word.row],
    )


def find_threshold(soft: Soft, rule: Literal["otsu"] | float) -> float:
    """Return the threshold of a map [h, w] scaled to 0..1; Otsu's is kept inside `OTSU_RANGE`."""
    return _clip(split_levels(count_levels(soft))[0]) if rule == "otsu" else rule


def _clip(threshold: float) -> float:
    return float(np.clip(threshold, *OTSU_RANGE))
