"""Choose the accepted images that came nearest to a rejection. The measure is our choice.

The margin of an image to a bound is its distance in units of the distance of its concept's median: 0 at the bound, 1 at
the median. A score without a gate is measured from the least value that it can have, if more of it is better.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.gates import SCORES, Gate
from tailforge.tasks.report.outcomes import select_originals

SHOWN = 12
LEAST_PER_CONCEPT = 2

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Weak:
    """An accepted image: the score with its smallest margin, its value, the bound and the margin."""

    sample_id: str
    score: str
    value: float
    bound: float
    margin: float


def choose_weakest(recipe: Recipe, manifest: pa.Table, rejects: pa.Table, count: int = SHOWN) -> list[Weak]:
    """Return the accepted originals with the smallest margins, the smallest first, from as many concepts as possible.

    Images that a person accepted may have a negative margin. Images without any score are left out.
    """
    # Each concept has its own medians and quantiles.
    accepted, rejected = select_originals(manifest), select_originals(rejects)
    found: list[tuple[Weak, str]] = []
    for concept in recipe.concepts:
        own, lost = (table.filter(pc.equal(table["concept"], concept.name)) for table in (accepted, rejected))
        found += [(weak, concept.name) for weak in _measure(recipe.quality.gates, own, lost)]
    found.sort(key=lambda item: (item[0].margin, item[0].sample_id))

    # A concept with many weak images leaves room for the others.
    most, taken = max(LEAST_PER_CONCEPT, count // len(recipe.concepts)), Counter[str]()
    chosen: list[Weak] = []
    for weak, name in found:
        if taken[name] < most and len(chosen) < count:
            taken[name] += 1
            chosen.append(weak)
    return chosen


def _measure(gates: Mapping[str, Gate], accepted: pa.Table, rejected: pa.Table) -> Iterator[Weak]:
    """Yield the smallest margin of each accepted image of one concept that has a score."""
    names, bounds, columns = [], [], []
    for score in SCORES:
        values = _to_floats(accepted, score)
        for bound, sign in _list_bounds(score, gates.get(score), accepted, rejected):
            names.append(score)
            bounds.append(bound)
            columns.append(_margins(values, bound, sign))
    if not columns:
        return

    # Margins [images, bounds]; infinite without a score.
    margins = np.stack(columns, 1)
    for place, sample_id in enumerate(accepted["sample_id"].to_pylist()):
        nearest = int(margins[place].argmin())
        if np.isfinite(margins[place, nearest]):
            value = float(accepted[names[nearest]][place].as_py())
            yield Weak(sample_id, names[nearest], value, bounds[nearest], float(margins[place, nearest]))


def _list_bounds(score: str, gate: Gate | None, accepted: pa.Table, rejected: pa.Table) -> list[tuple[float, int]]:
    """Return bounds of a score for one concept with 1 for a lower and -1 for an upper bound."""
    if gate is None:
        return [(SCORES[score].least, 1)] if SCORES[score].more_is_better else []

    # Quantiles are those of the first round, passed or not, as in tasks/methods/quality/gates.py.
    bounds = [(bound, sign) for bound, sign in ((gate.min, 1), (gate.max, -1)) if bound is not None]
    both = [table.filter(pc.equal(table["attempt"], 0)) for table in (accepted, rejected)]
    first = np.concatenate([_to_floats(table, score) for table in both])
    first = first[np.isfinite(first)]
    for share, sign in ((gate.min_quantile, 1), (gate.max_quantile, -1)):
        if share is not None and first.size:
            bounds.append((float(np.quantile(first, share)), sign))
    return bounds


def _margins(values: Values, bound: float, sign: int) -> Values:
    """Return the margin of each value to a bound; infinite for a missing value and where the median is at the bound."""
    # Without a distance of the median there is no unit.
    finite = values[np.isfinite(values)]
    unit = sign * (float(np.median(finite)) - bound) if finite.size else 0.0
    if unit <= 0:
        return np.full(len(values), np.inf)
    return np.where(np.isfinite(values), sign * (values - bound) / unit, np.inf)


def _to_floats(table: pa.Table, score: str) -> Values:
    """Return a score as float64 with NaN for missing values."""
    return np.asarray(table[score].to_numpy(), np.float64)
