"""Connect the accelerators of one training with `accelerate`.

tasks/methods/generator_training/devices.py defines the protocol.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor


@contextmanager
def keep_threads() -> Iterator[None]:
    """Give torch its number of threads back at the end, for the work after a training."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


class AcceleratedDevices:
    """The processes that `accelerate launch` started, or this process alone."""

    def __init__(self, precision: str) -> None:
        # Accelerator(mixed_precision=...) would set the precision of all trainings of a process.
        self._half = precision == "bfloat16"
        self._accelerator = Accelerator(cpu=not torch.cuda.is_available())

    @property
    def rank(self) -> int:
        """Return the number of this process, from 0."""
        number: int = self._accelerator.process_index
        return number

    @property
    def count(self) -> int:
        """Return the number of processes."""
        number: int = self._accelerator.num_processes
        return number

    @property
    def device(self) -> torch.device:
        """Return the device of this process."""
        device: torch.device = self._accelerator.device
        return device

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context in which forward passes use the chosen precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._half)

    def average(self, values: Sequence[Tensor]) -> None:
        """Replace each tensor, of any shape, by its mean over all processes."""
        if self.count == 1 or not values:
            return

        # One reduction of all values together, then copies back into each tensor.
        joined = torch.cat([value.detach().reshape(-1).to(self.device) for value in values])
        mean = self._accelerator.reduce(joined, reduction="mean")
        at = 0
        for value in values:
            value.detach().copy_(mean[at : at + value.numel()].view_as(value))
            at += value.numel()

    def wait(self) -> None:
        """Wait until every process has called this method."""
        self._accelerator.wait_for_everyone()
