"""The accelerators that train together, by `accelerate`; see tasks/methods/generator_training/devices.py."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from accelerate import Accelerator
from torch import Tensor


class AcceleratedDevices:
    """This process among those that `accelerate launch` started; alone without it."""

    def __init__(self, precision: str) -> None:
        # Not by Accelerator(mixed_precision=...), which a process can say once for all of its trainings.
        self._half = precision == "bfloat16"
        self._accelerator = Accelerator(cpu=not torch.cuda.is_available())

    @property
    def rank(self) -> int:
        number: int = self._accelerator.process_index
        return number

    @property
    def count(self) -> int:
        number: int = self._accelerator.num_processes
        return number

    @property
    def device(self) -> torch.device:
        device: torch.device = self._accelerator.device
        return device

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._half)

    def average(self, values: Sequence[Tensor]) -> None:
        if self.count == 1 or not values:
            return
        joined = torch.cat([value.detach().reshape(-1).to(self.device) for value in values])
        mean = self._accelerator.reduce(joined, reduction="mean")
        at = 0
        for value in values:
            value.detach().copy_(mean[at : at + value.numel()].view_as(value))
            at += value.numel()

    def wait(self) -> None:
        """Until every process is here."""
        self._accelerator.wait_for_everyone()
