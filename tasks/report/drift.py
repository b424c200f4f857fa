"""Drift of scores between versions: the two-sample Kolmogorov-Smirnov distance, and when it is worth a look.

The distance is the largest difference of the two empirical distribution functions (Smirnov 1948, Annals of Mathematical
Statistics 19); its asymptotic critical value is sqrt(-ln(level / 2) / 2) * sqrt((n + m) / (n m)). What is compared with
what, the level, the least size and the least number of images are our choices.

Compared are all images that were made and scored, whatever became of them: quotas and gates that changed are no drift
of the generator. (A gate still hides what it rejects from the scores that are computed behind it.) Of the newer version
only values count that the older one does not hold already for the same image, since versions that grow share most rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tailforge.tasks.report.histograms import SCORES

LEVEL = 0.01  # of all comparisons of a report together: each gets its equal share (Bonferroni)
LARGE = 0.2  # a smaller distance is not worth a look, however certain
FEWEST, MOST = 30, 20_000  # images on either side; of more, so many are picked at even steps, to bound the time

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """One score of a version beside an earlier `version`; `concept` is "" for all concepts together.

    `new` and `old` are numbers of the images that were compared, medians are those of the same images.
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
    """`critical`: the distance that chance alone rarely passes; `flagged` where it is passed and the distance LARGE."""

    critical: float
    flagged: bool


def measure_distance(new: Values, old: Values) -> float:
    """Kolmogorov-Smirnov distance of two samples that are not empty, 0 to 1."""
    sides = np.sort(new), np.sort(old)
    points = np.sort(np.concatenate(sides), kind="stable")  # in order, because they are looked up many times faster so
    shares = [np.searchsorted(values, points, side="right") / values.size for values in sides]
    return float(np.abs(shares[0] - shares[1]).max())


def find_critical(new: int, old: int, level: float) -> float:
    """The distance that two large samples from one distribution pass with probability `level`."""
    return float(np.sqrt(-np.log(level / 2) / 2 * (new + old) / (new * old)))


def compare_scores(images: pa.Table, earlier: pa.Table, version: str, concepts: Sequence[str] = ()) -> list[Comparison]:
    """Every score with at least FEWEST images on both sides, over all concepts and for each of `concepts`.

    Both tables are those of tasks/report/all_samples.py; `version` is the earlier one's number.
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
    """The comparisons of one report with their critical values; LEVEL is shared among all of them."""
    listed = list(comparisons)
    judged = []
    for each in listed:
        critical = find_critical(each.new, each.old, LEVEL / len(listed))
        flagged = each.distance > critical and each.distance >= LARGE
        judged.append(Drift(**vars(each), critical=critical, flagged=flagged))
    return judged


def describe_quartiles(images: pa.Table) -> Mapping[str, tuple[float, float, float, int]]:
    """Lower quartile, median, upper quartile and number of each score that any image has."""
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
    """A score of every row; NaN where there is none."""
    column = pc.fill_null(images[score].cast(pa.float64()), float("nan"))
    values = np.asarray(column.combine_chunks(), dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _of_concept(images: pa.Table, values: Values, concept: str) -> Values:
    own = np.isfinite(values)
    if concept:
        own &= np.asarray(pc.equal(images["concept"], concept).combine_chunks().to_numpy(zero_copy_only=False), bool)
    return values[own]


def _thin(values: Values) -> Values:
    """At most MOST of them, at even steps: rows stand in the order of shards and partitions, never of scores."""
    return values[:: -(-values.size // MOST) or 1]


def _is_known(images: pa.Table, earlier: pa.Table, place: pa.Array, new: Values, old: Values) -> NDArray[np.bool_]:
    """Which rows are the same image, by id and perceptual hash, with the same value as before."""
    if not len(earlier):
        return np.zeros(len(images), bool)
    row = np.asarray(pc.fill_null(place, 0), dtype=np.int64)
    shared = np.asarray(pc.is_valid(place).to_numpy(zero_copy_only=False), bool)
    hashes = [np.asarray(pc.fill_null(table["phash"], 0).combine_chunks(), np.uint64) for table in (images, earlier)]
    known: NDArray[np.bool_] = shared & (hashes[0] == hashes[1][row]) & (new == old[row])
    return known
