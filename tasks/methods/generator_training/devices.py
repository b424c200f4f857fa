"""What training asks of the machine: which share of a step is this process's, and the mean over all of them.

Every process draws the whole step and takes its own part, so the same step is made on one device or on many, up to the
order of sums. Relations are compared inside a process's groups, which a step's split never cuts.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor


class Devices(Protocol):
    """The processes that train together, each with a device of its own."""

    @property
    def rank(self) -> int: ...

    @property
    def count(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def autocast(self) -> AbstractContextManager[None]:
        """Forward passes in the precision that was chosen."""

    def average(self, values: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes."""


class OneDevice:
    """This process alone, in float32."""

    rank = 0
    count = 1

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def autocast(self) -> AbstractContextManager[None]:
        """Keep forward passes in float32."""
        return nullcontext()

    def average(self, values: Sequence[Tensor]) -> None:
        """Leave the tensors as they are: the mean over one process."""
