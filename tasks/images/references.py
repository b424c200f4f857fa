"""Pick reference photographs per class from measured photographs of the training split."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.inspection.references import choose_references
from tailforge.tasks.images.measures import Measures


@dataclass(frozen=True)
class Candidates:
    """Photographs to pick from. `labels`, `splits`: per place; `sets`: number of the set of twins, int64 [places].

    `least_side`: pixels below which a photograph is no reference.
    """

    measures: Measures
    labels: Sequence[str]
    splits: Sequence[str]
    sets: NDArray[np.int64]
    least_side: int


def pick_references(candidates: Candidates, classes: Sequence[str], count: int) -> dict[str, tuple[int, ...]]:
    """Return at most `count` places per class, in the order of choice; a class without candidates is left out.

    Only photographs of split train count, one per set of twins, and none whose twins have another class.
    """
    labels_of: dict[int, set[str]] = defaultdict(set)
    for label, number in zip(candidates.labels, candidates.sets.tolist(), strict=True):
        labels_of[number].add(label)

    # Rows of the measures, by class.
    rows: dict[str, list[int]] = defaultdict(list)
    taken: set[int] = set()
    for row, place in enumerate(candidates.measures.places.tolist()):
        number = int(candidates.sets[place])
        large = min(candidates.measures.shown[row][:2]) >= candidates.least_side
        if candidates.splits[place] == "train" and large and number not in taken and len(labels_of[number]) == 1:
            taken.add(number)
            rows[candidates.labels[place]].append(row)

    features = candidates.measures.features
    chosen = {
        name: np.array(rows[name])[choose_references(features[rows[name]], count)] for name in classes if name in rows
    }
    return {name: tuple(candidates.measures.places[own].tolist()) for name, own in chosen.items()}
