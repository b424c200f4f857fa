"""Choose which weights of a UNet learn: all, low-rank adapters, or biases and scales; fold them in afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.training.generator import LoraSettings

SCALED = ("attn1.to_out.0", "attn2.to_out.0", "ff.net.2")  # the last layer of each part of a transformer block
NORMS = (nn.GroupNorm, nn.LayerNorm)


def prepare_weights(unet: UNet2DConditionModel, weights: str, lora: LoraSettings, seed: int) -> None:
    """Set `requires_grad` on exactly the weights that learn, and add adapters or scales where these learn.

    `weights`: all, lora (arXiv 2106.09685) or bias_scale (after DiffFit, arXiv 2304.06648: here biases, affine weights
    of norms and one factor per output of attention and feed-forward layers). `seed`: of the adapters' first weights.
    Errors: RecipeError for `lora.targets` that match no layer.
    """
    # Adapters and biases learn beside weights that are frozen.
    unet.requires_grad_(weights == "all")
    if weights == "lora":
        _add_adapters(unet, lora, seed)
    elif weights == "bias_scale":
        _free_biases(unet)


def fold_weights(unet: UNet2DConditionModel, weights: str) -> None:
    """Fold adapters and scales into the weights. The UNet is then a plain one that draws the same."""
    if weights == "lora":
        unet.fuse_lora()
        unet.unload_lora()
    elif weights == "bias_scale":
        for layer in _scaled_layers(unet):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    unet.requires_grad_(False)


@contextmanager
def without_adapters(unet: UNet2DConditionModel) -> Iterator[None]:
    """Let the UNet compute without its low-rank adapters inside the block."""
    unet.disable_adapters()
    try:
        yield
    finally:
        unet.enable_adapters()


def _add_adapters(unet: UNet2DConditionModel, lora: LoraSettings, seed: int) -> None:
    """Add low-rank adapters to the layers whose names end in one of the targets."""
    # A target without a layer is a mistake in the recipe.
    named = [name for name, _ in unet.named_modules()]
    if missing := [target for target in lora.targets if not any(name.endswith(target) for name in named)]:
        raise RecipeError(
            f"lora.targets: no layer of the UNet ends in {missing[0]!r}; the attention layers are called to_q, to_k, "
            "to_v and to_out.0"
        )

    # The first weights follow from the seed; the caller's random state stays as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        targets = list(lora.targets)
        config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, init_lora_weights="gaussian", target_modules=targets)
        unet.add_adapter(config)


def _free_biases(unet: UNet2DConditionModel) -> None:
    """Let biases and affine weights of norms learn, and a factor per output of the layers that `SCALED` names."""
    for module in unet.modules():
        for name, value in module.named_parameters(recurse=False):
            value.requires_grad_(name == "bias" or isinstance(module, NORMS))

    # The factors are parameters of their own until `fold_weights` multiplies them in.
    for layer in _scaled_layers(unet):
        parametrize.register_parametrization(layer, "weight", _OutputScale(layer.out_features))


def _scaled_layers(unet: UNet2DConditionModel) -> list[nn.Linear]:
    """Return the linear layers whose names end in one of `SCALED`."""
    return [module for name, module in unet.named_modules() if isinstance(module, nn.Linear) and name.endswith(SCALED)]


class _OutputScale(nn.Module):
    """One factor per output of a linear layer, 1 at first. The layer's bias learns as it is."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(outputs))

    def forward(self, weight: Tensor) -> Tensor:
        """Return weights [outputs, inputs], each row times its factor."""
        return self.scale[:, None] * weight
