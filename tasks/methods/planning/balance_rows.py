"""Balance a design: choose values per row so that values and pairs of values occur in proportion to their weights.

The construction is ours, close to an orthogonal array built column by column. Each column is cut into turns, and a
turn has as many rows as the column has values. Within a turn, an assignment problem places the values in the rows
where they repeat the fewest pairs. So single values are balanced after every turn, and pairs nearly so.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Rows = NDArray[np.int64]
Counts = NDArray[np.float64]

REPEAT_COST = 1e6  # one repeated row costs more than all repeated pairs


def balance_rows(weights: Sequence[Sequence[float]], count: int, seed: int) -> Rows:
    """Return indices of values [count, columns]. `weights[c]` holds the weights of column c's values, all above 0.

    After any number of rows, the counts of two values of equal weight differ by at most one. A row repeats only if its
    turn has no other place left. A larger `count` only appends rows. Column 0 holds its values in order; `seed`
    decides the order of the other columns.
    """
    # Design more rows than requested: the last, unfinished turns depend on the number of rows and are cut off.
    total = count + sum(map(len, weights))

    # Every further column is arranged by the columns before it.
    columns = [take_turns(weights[0], total)]
    for index in range(1, len(weights)):
        generator = np.random.default_rng([seed, index])
        columns.append(_arrange(take_turns(weights[index], total), columns, weights[: index + 1], generator))
    return np.stack(columns, axis=1)[:count]


def take_turns(weights: Sequence[float], count: int) -> Rows:
    """Return values [count] of which every prefix is in proportion to the weights (Webster's divisor method)."""
    # The next value is the one with the smallest (count + 1/2) / weight.
    divisors = np.asarray(weights, np.float64)
    taken = np.zeros(len(weights))
    values = np.empty(count, np.int64)
    for row in range(count):
        values[row] = np.argmin((taken + 0.5) / divisors)
        taken[values[row]] += 1
    return values


def _arrange(
    values: Rows, columns: list[Rows], weights: Sequence[Sequence[float]], random: np.random.Generator
) -> Rows:
    """Permute `values` [count] within each turn so that pairs and whole rows repeat as little as possible: [count].

    `columns`: the columns [count] before this one. `weights`: those of these columns and, last, of this one.
    """
    # Counts of each pair and each whole row so far. A row of the columns before this one is a prefix.
    share = [np.asarray(w) / np.mean(w) for w in weights]
    turn = len(share[-1])
    pairs = [np.zeros((len(own), turn)) for own in share[:-1]]
    _, prefixes = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    rows_seen: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    arranged = np.empty_like(values)

    # Turn by turn. The cost of a value in a row is the sum of its repeats, each divided by the expected count.
    for start, stop in pairwise([*range(0, len(values), turn), len(values)]):
        cost = random.random((stop - start, turn)) * 1e-3  # decides ties only
        for column, met, own in zip(columns, pairs, share, strict=False):
            here = column[start:stop]
            cost += met[here] / own[here, None] / share[-1]
        # Repeated rows.
        for row, prefix in enumerate(prefixes[start:stop]):
            for value, times in rows_seen[prefix].items():
                cost[row, value] += REPEAT_COST * times / share[-1][value]

        # Find the cheapest assignment of the turn's values to its rows, and count its pairs and rows.
        _, places = linear_sum_assignment(cost[:, values[start:stop]])
        arranged[start:stop] = chosen = values[start:stop][places]
        for column, met in zip(columns, pairs, strict=True):
            np.add.at(met, (column[start:stop], chosen), 1)
        for prefix, value in zip(prefixes[start:stop], chosen, strict=True):
            rows_seen[prefix][value] += 1
    return arranged
