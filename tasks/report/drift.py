"""Measure the drift of scores between versions by the two-sample Kolmogorov-Smirnov distance.

The distance is the largest difference of the two empirical distribution functions (Smirnov 1948, Annals of Mathematical
Statistics 19). Its asymptotic critical value is sqrt(-ln(level / 2) / 2) * sqrt((n + m) / (n m)). The compared values,
the level and the smallest size and number are our choices.

The comparison covers all scored images, whatever their outcome: changed quotas and gates are no drift of the generator.
A gate still hides rejected images from scores computed later. Versions share most rows, so the newer version counts
only values that the older one does not have for the same image.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tailforge.tasks.report.histograms import SCORES

LEVEL = 0.01  # for all comparisons of a report together, in equal shares (Bonferroni)
LARGE = 0.2  # smaller distances are never flagged
FEWEST, MOST = 30, 20_000  # images per side; larger sides are thinned at even steps, to bound the time

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """One score of a version beside an earlier `version`; `concept` is "" for all concepts together.

    `new` and `old` are numbers of compared images; the medians are those of the same images.
    """

    score: str
    concept: str
    version: str
    new: int
    old: int
    median_new: float
    median_old: float
    distance: float


@dataclass(frozen=True)
class Drift(Comparison):
    """A comparison with its `critical` distance; `flagged` if the distance exceeds it and is at least LARGE."""

    critical: float
    flagged: bool


def measure_distance(new: Values, old: Values) -> float:
    """Return the Kolmogorov-Smirnov distance of two non-empty samples, 0 to 1."""
    sides = np.sort(new), np.sort(old)
    points = np.sort(np.concatenate(sides), kind="stable")  # sorted points are looked up much faster
    shares = [np.searchsorted(values, points, side="right") / values.size for values in sides]
    return float(np.abs(shares[0] - shares[1]).max())


def find_critical(new: int, old: int, level: float) -> float:
    """Return the distance that two large samples of one distribution exceed with probability `level`."""
    return float(np.sqrt(-np.log(level / 2) / 2 * (new + old) / (new * old)))


def compare_scores(images: pa.Table, earlier: pa.Table, version: str, concepts: Sequence[str] = ()) -> list[Comparison]:
    """Compare every score with at least FEWEST images on both sides, over all concepts and for each of `concepts`.

    Both tables come from tasks/report/all_samples.py; `version` is the number of the earlier one.
    """
    place = pc.index_in(images["sample_id"].combine_chunks(), value_set=earlier["sample_id"].combine_chunks())
    found = []
    for score in SCORES:
        new, old = (_values(table, score) for table in (images, earlier))
        new = np.where(_is_known(images, earlier, place, new, old), np.nan, new)
        for concept in ("", *concepts):
            sides = [_thin(_of_concept(*side, concept)) for side in ((images, new), (earlier, old))]
            if min(values.size for values in sides) >= FEWEST:
                found.append(_compare(score, concept, version, *sides))
    return found


def judge_drift(comparisons: Iterable[Comparison]) -> list[Drift]:
    """Return the comparisons of one report with their critical values, at equal shares of LEVEL."""
    listed = list(comparisons)
    judged = []
    for each in listed:
        critical = find_critical(each.new, each.old, LEVEL / len(listed))
        flagged = each.distance > critical and each.distance >= LARGE
        judged.append(Drift(**vars(each), critical=critical, flagged=flagged))
    return judged


def describe_quartiles(images: pa.Table) -> Mapping[str, tuple[float, float, float, int]]:
    """Return lower quartile, median, upper quartile and number of each score with values."""
    found = {}
    for score in SCORES:
        values = _of_concept(images, _values(images, score), "")
        if values.size:
            low, middle, high = (float(value) for value in np.quantile(values, (0.25, 0.5, 0.75)))
            found[score] = (low, middle, high, int(values.size))
    return found


def _compare(score: str, concept: str, version: str, new: Values, old: Values) -> Comparison:
    medians = float(np.median(new)), float(np.median(old))
    return Comparison(score, concept, version, new.size, old.size, *medians, measure_distance(new, old))


def _values(images: pa.Table, score: str) -> Values:
    """Return a score per row, NaN without one."""
    column = pc.fill_null(images[score].cast(pa.float64()), float("nan"))
    values = np.asarray(column.combine_chunks(), dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _of_concept(images: pa.Table, values: Values, concept: str) -> Values:
    own = np.isfinite(values)
    if concept:
        own &= np.asarray(pc.equal(images["concept"], concept).combine_chunks().to_numpy(zero_copy_only=False), bool)
    return values[own]


def _thin(values: Values) -> Values:
    """Return at most MOST values at even steps; rows follow shards and partitions, never scores."""
    return values[:: -(-values.size // MOST) or 1]


def _is_known(images: pa.Table, earlier: pa.Table, place: pa.Array, new: Values, old: Values) -> NDArray[np.bool_]:
    """Return which rows are the same image (by id and perceptual hash) with the same value as before."""
    if not len(earlier):
        return np.zeros(len(images), bool)
    row = np.asarray(pc.fill_null(place, 0), dtype=np.int64)
    shared = np.asarray(pc.is_valid(place).to_numpy(zero_copy_only=False), bool)
    hashes = [np.asarray(pc.fill_null(table["phash"], 0).combine_chunks(), np.uint64) for table in (images, earlier)]
    known: NDArray[np.bool_] = shared & (hashes[0] == hashes[1][row]) & (new == old[row])
    return known
