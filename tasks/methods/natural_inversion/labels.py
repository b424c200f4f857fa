"""Choose the labels of a batch: equally many of each class, the rest drawn without repetition."""

import torch


def spread_labels(count: int, classes: int, seed: int) -> list[int]:
    """Return floor(count / classes) labels of each class, then count mod classes distinct random ones.

    With 256 and 10 classes: 25 of each and 6 more. With 100 classes: 2 of each and 56 more, as in the published code.
    """
    if count < 0 or classes < 1:
        raise ValueError(f"count is {count} and classes is {classes}; give at least 0 and 1")
    rest = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))[: count % classes]
    return sorted([*(label for label in range(classes) for _ in range(count // classes)), *rest.tolist()])
