"""Compute confidence intervals of measured shares."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

NORMAL_95 = 1.959964  # standard errors in half a 95 % interval


def wilson_interval(hits: float, count: int, z: float = NORMAL_95) -> tuple[float, float]:
    """Return the score interval of a share, 95 % by default; (0, 1) without any trial. Source: Wilson 1927.

    `hits` may be a fraction, such as a mean over models.
    """
    if count == 0:
        return 0.0, 1.0
    share = hits / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count

    # Rounding must not put the share itself outside.
    return max(0.0, min(share, (centre - spread) / scale)), min(1.0, max(share, (centre + spread) / scale))


def student_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's interval of the mean of at least two values, 95 % by default. Source: Student 1908.

    Errors: statistics.StatisticsError for fewer values.
    """
    from scipy.special import stdtrit  # an extra installs scipy

    # The mean plus and minus the quantile times the standard error.
    middle, count = fmean(values), len(values)
    half = float(stdtrit(count - 1, 0.5 + confidence / 2)) * stdev(values) / math.sqrt(count)
    return middle - half, middle + half
