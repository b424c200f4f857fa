"""Describe the machine as training sees it: this process's share of a step, and the mean over all processes.

Every process draws the whole step and takes its own part. So one device and many take the same step, up to the order of
sums. The split never cuts a group, and a process compares relations only inside its own groups.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor


class Devices(Protocol):
    """The processes that train together, each with a device of its own."""

    @property
    def rank(self) -> int:
        """Return this process's number, from 0."""

    @property
    def count(self) -> int:
        """Return the number of processes."""

    @property
    def device(self) -> torch.device:
        """Return this process's device."""

    def autocast(self) -> AbstractContextManager[None]:
        """Run forward passes in the chosen precision inside the block."""

    def average(self, values: Sequence[Tensor]) -> None:
        """Replace each tensor, of any shape, by its mean over all processes."""


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
        """Leave tensors of any shape as they are: the mean over one process."""
