"""Devices of a training that is this process alone."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


class OneDevice:
    """This process alone, in float32."""

    rank = 0
    count = 1

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def autocast(self) -> AbstractContextManager[None]:
        return nullcontext()

    def average(self, values: Sequence[Tensor]) -> None:
        return None
