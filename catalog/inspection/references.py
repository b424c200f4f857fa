"""Choose reference photographs of a class: different from one another, and none far from all others."""

import numpy as np
from numpy.typing import NDArray

FAR_SHARE = 0.1  # farthest photographs that are no candidates; our choice
FEWEST = 10  # photographs of a class below which none counts as far


def choose_references(features: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the places of at most `count` photographs, int64 [chosen], in the order of their choice.

    `features`: [photographs, dimensions]. The farthest tenth from the median photograph is left out. The first choice
    is the nearest to it; each further one is the farthest from all earlier ones (Gonzalez, "Clustering to minimize the
    maximum intercluster distance", 1985: greedy k-center).
    """
    if not len(features):
        return np.empty(0, np.int64)
    middle = np.median(features, axis=0)
    distances = np.linalg.norm(features - middle, axis=1)
    order = np.argsort(distances, kind="stable")
    kept = order if len(order) < FEWEST else order[: len(order) - int(FAR_SHARE * len(order))]

    chosen = [int(kept[0])]
    nearest = np.linalg.norm(features[kept] - features[chosen[0]], axis=1)
    while len(chosen) < min(count, len(kept)):
        nearest[np.isin(kept, chosen)] = -1
        chosen.append(int(kept[int(np.argmax(nearest))]))
        nearest = np.minimum(nearest, np.linalg.norm(features[kept] - features[chosen[-1]], axis=1))
    return np.array(chosen, np.int64)
