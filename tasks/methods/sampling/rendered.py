"""Define the outcome of one sample, and how samples are cut into batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

S = TypeVar("S")

OUT_OF_MEMORY = "out of memory with a batch of one"


@dataclass(frozen=True)
class Rendered:
    """The outcome of one sample. If `error` is set, pixels and attention are None."""

    sample_id: str
    error: str | None
    pixels: NDArray[np.uint8] | None  # [height, width, 3]
    attention: NDArray[np.float16] | None  # [slot, h, w]
    provenance: dict[str, Any]
    noise: NDArray[np.float16] | None = None  # [C, H, W], if an engine chose the noise; the image is remade from it
    agreement: list[float] | None = None  # per slot, early against late attention, 0..1; None after one reading
    latents: NDArray[np.float32] | None = None  # [C, H, W], clean: the input of the decoder


def cut_batches(samples: Sequence[S], size: int) -> list[Sequence[S]]:
    """Cut the samples into batches of `size`, in order; the last may be shorter."""
    # Slices of the plan: a repeated batch holds the same samples.
    return [samples[start : start + size] for start in range(0, len(samples), size)]
