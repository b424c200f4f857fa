"""Count the bytes of tensors that a batch holds at most, on fake tensors: no memory, and no arithmetic.

A fake tensor (torch's FakeTensorMode) has shape, type and layout, but no values. The counted calls are those of real
sampling: `sample_latents` and `decode`. Not counted: the scheduler's latents, the workspace of single operations, and
attention maps.

Letters of shapes: B images, C channels, H and W latent rows and columns.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tailforge.tasks.methods.sampling.generator import Conditioning, ImageGenerator
from tailforge.tasks.methods.sampling.plain import sample_latents


class PeakCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context that counts the bytes of tensors made inside it. `peak`: the most that lived at one time.

    It counts storages, so views are free. torch's MemTracker does the same for training; it refuses frozen networks.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count the storages of its results."""
        # An input that is new here was made outside: a result may be a view of it.
        self._note((args, kwargs), 0)
        # Both the inputs and the results live when the operation ends, so the peak is taken here.
        made = func(*args, **(kwargs or {}))
        self._note(made, 1)
        self.peak = max(self.peak, self.live)
        return made

    def _note(self, tensors: Any, share: int) -> None:
        """Note the storages of nested tensors that are new, and count `share` (0 or 1) of their bytes."""
        for each in tree_leaves(tensors):
            if not isinstance(each, Tensor) or (key := id(storage := each.untyped_storage())) in self._known:
                continue
            # The bytes count until the last tensor of this storage is gone.
            size = share * storage.nbytes()
            self._known.add(key)
            self.live += size
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


class CountedSteps:
    """The scheduler of a counted run. A real one reads values, and fake tensors have none.

    `timesteps` [N]. A step subtracts the network's output.
    """

    config: Any = None
    init_noise_sigma = 1.0

    def __init__(self, count: int) -> None:
        self.timesteps = torch.zeros(count)

    def set_timesteps(self, num_inference_steps: int, *, device: torch.device) -> None:
        """Set the timesteps of a run."""
        self.timesteps = torch.zeros(num_inference_steps, device=device)

    def scale_model_input(self, sample: Tensor, timestep: Any) -> Tensor:
        """Return latents [B, C, H, W] unchanged."""
        return sample

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, **options: Any) -> Any:
        """Return the latents [B, C, H, W] after a step."""
        return (sample - model_output,)


def count_weights(networks: Sequence[nn.Module]) -> int:
    """Return the bytes of all parameters and buffers of some networks; shared ones count once."""
    # By identity: text encoders tie their embeddings.
    tensors = [each for network in networks for each in (*network.parameters(), *network.buffers())]
    return sum({id(each): each.nbytes for each in tensors}.values())


def count_peak(run: Callable[[], object]) -> int:
    """Return the most bytes of tensors that live at one time while `run` makes them, without those made before."""
    # Weights and inputs stand outside the counter.
    counter = PeakCounter()
    with counter:
        run()
    return counter.peak


@torch.no_grad()
def count_denoising(
    model: ImageGenerator,
    noise: Tensor,
    text: Conditioning,
    negative: Conditioning | None,
    guidance: float,
    guide: ImageGenerator | None = None,
) -> int:
    """Return the peak of one denoising step from `noise` [B, C, H, W], in bytes; further steps need no more."""
    # Steps keep nothing for each other but latents, so one step stands for all.
    return count_peak(lambda: sample_latents(model, CountedSteps(1), noise, text, negative, guidance, (), guide))


@torch.no_grad()
def count_decoding(model: ImageGenerator, latents: Tensor) -> int:
    """Return the peak of decoding latents [B, C, H, W] to float32 images, in bytes."""
    return count_peak(lambda: model.decode(latents).float())
