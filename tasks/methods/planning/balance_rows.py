"""Which values meet in which row, when every value, and every pair of values, shall occur as often as its weight asks.

Our own construction, near to an orthogonal array built column by column: each column runs through its values in turns
as long as the column has values, and within a turn the values go to the rows that minimise repeats (an assignment
problem). So single values are even after every turn whatever the other columns do, and pairs nearly so.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Rows = NDArray[np.int64]
Counts = NDArray[np.float64]

REPEAT_COST = 1e6  # a repeated row outweighs every repeated pair


def balance_rows(weights: Sequence[Sequence[float]], count: int, seed: int) -> Rows:
    """Return value indices [count, columns]; `weights[c]` holds the weights of column c's values, all above 0.

    After any number of rows, values of equal weights differ by at most one in their counts. A row repeats only if its
    turn has no other place left. More rows never change the first ones. Column 0 runs through its values in order;
    `seed` decides the order of the others.
    """
    total = count + sum(map(len, weights))  # what is cut off below would change with `count`
    columns = [take_turns(weights[0], total)]
    for index in range(1, len(weights)):
        generator = np.random.default_rng([seed, index])
        columns.append(_arrange(take_turns(weights[index], total), columns, weights[: index + 1], generator))
    return np.stack(columns, axis=1)[:count]


def take_turns(weights: Sequence[float], count: int) -> Rows:
    """Return values [count] with every beginning in proportion to the weights (Webster's divisor method)."""
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
    """Permute `values` within each turn so that pairs and whole rows repeat as little as possible."""
    # How often each pair and each whole row has met so far.
    share = [np.asarray(w) / np.mean(w) for w in weights]
    turn = len(share[-1])
    pairs = [np.zeros((len(own), turn)) for own in share[:-1]]
    _, prefixes = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    rows_seen: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    arranged = np.empty_like(values)

    # One turn at a time: the cost of a value in a row is what it would repeat.
    for start, stop in pairwise([*range(0, len(values), turn), len(values)]):
        cost = random.random((stop - start, turn)) * 1e-3  # decides ties, and nothing else
        for column, met, own in zip(columns, pairs, share, strict=False):
            here = column[start:stop]
            cost += met[here] / own[here, None] / share[-1]
        for row, prefix in enumerate(prefixes[start:stop]):
            for value, times in rows_seen[prefix].items():
                cost[row, value] += REPEAT_COST * times / share[-1][value]

        # The cheapest assignment of the turn's values to its rows.
        _, places = linear_sum_assignment(cost[:, values[start:stop]])
        arranged[start:stop] = chosen = values[start:stop][places]
        for column, met in zip(columns, pairs, strict=True):
            np.add.at(met, (column[start:stop], chosen), 1)
        for prefix, value in zip(prefixes[start:stop], chosen, strict=True):
            rows_seen[prefix][value] += 1
    return arranged
