"""Divide photographs into splits: by whole blocks, each class in proportion, the same at every run."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.images.splits import find_split
from tailforge.schemas.errors import ImagesError

SHARES: Mapping[str, float] = {"train": 0.8, "test": 0.1, "validation": 0.1}  # our choice; ties go to the first
FEWEST = 5  # photographs of a class from which each split has one


def read_splits(splits: Sequence[str | None]) -> tuple[str, ...] | None:
    """Return the splits in their usual words: train, validation and test; None if the photographs have none.

    Errors: ImagesError for splits without a train, and for other words.
    """
    named = {each for each in splits if each is not None}
    if not named:
        return None
    known = {each: find_split(each) for each in named}
    if strange := sorted(each for each, word in known.items() if word is None):
        raise ImagesError(
            f"the photographs are of split {strange[0]!r:.80}, which is none of train, validation and test; rename it, "
            "or leave the column out by --split-column"
        )
    if "train" not in known.values():
        raise ImagesError(f"the photographs have the splits {', '.join(sorted(named))} and no train; name one so")
    return tuple(str(known[each]) for each in splits if each is not None)


def assign_splits(
    labels: Sequence[str], blocks: NDArray[np.int64], seed: int, shares: Mapping[str, float] = SHARES
) -> tuple[str, ...]:
    """Return a split per photograph; a block is never divided.

    `blocks`: block per photograph, int64 [photographs], from 0. Large blocks come first, blocks of one size in an
    order by `seed`. Each goes to the split that lacks most of its classes, counted in photographs. A class of 5
    photographs or more has one at least in each split, if its blocks allow it.
    """
    content: list[Counter[str]] = [Counter() for _ in range(int(blocks.max(initial=-1)) + 1)]
    for label, block in zip(labels, blocks.tolist(), strict=True):
        content[block][label] += 1

    counts = Counter(labels)
    missing = {
        split: {label: _share(count, share) for label, count in counts.items()} for split, share in shares.items()
    }
    missing["train"] = {
        label: count - sum(missing[split][label] for split in shares if split != "train")
        for label, count in counts.items()
    }
    order = np.random.default_rng(seed).permutation(len(content)).tolist()
    order.sort(key=lambda block: -content[block].total())
    chosen = [""] * len(content)
    for block in order:
        own = content[block]
        split = max(shares, key=lambda each: sum(missing[each][label] * count for label, count in own.items()))
        chosen[block] = split
        for label, count in own.items():
            missing[split][label] -= count
    return tuple(chosen[block] for block in blocks.tolist())


def _share(count: int, share: float) -> float:
    """Return the photographs of a class that a split should have; of `FEWEST` or more at least one."""
    return max(share * count, 1.0 if count >= FEWEST else 0.0)
