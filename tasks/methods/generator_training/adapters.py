"""Which weights of a UNet learn: all, low-rank adapters, or biases and scales; and how it becomes a plain one again."""

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
    """Leave exactly the weights that learn with `requires_grad`. Errors: RecipeError for lora.targets that match none.

    `weights`: all, lora (arXiv 2106.09685) or bias_scale (after DiffFit, arXiv 2304.06648: here biases, affine weights
    of norms and a vector that scales each output of attention and feed-forward layers).
    """
    unet.requires_grad_(weights == "all")
    if weights == "lora":
        _add_adapters(unet, lora, seed)
    elif weights == "bias_scale":
        _free_biases(unet)


def fold_weights(unet: UNet2DConditionModel, weights: str) -> None:
    """Make adapters and scales part of the weights: afterwards the UNet is a plain one that draws the same."""
    if weights == "lora":
        unet.fuse_lora()
        unet.unload_lora()
    elif weights == "bias_scale":
        for layer in _scaled_layers(unet):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    unet.requires_grad_(False)


@contextmanager
def without_adapters(unet: UNet2DConditionModel) -> Iterator[None]:
    """The UNet as it was before low-rank adapters were added."""
    unet.disable_adapters()
    try:
        yield
    finally:
        unet.enable_adapters()


def _add_adapters(unet: UNet2DConditionModel, lora: LoraSettings, seed: int) -> None:
    named = [name for name, _ in unet.named_modules()]
    if missing := [target for target in lora.targets if not any(name.endswith(target) for name in named)]:
        raise RecipeError(
            f"lora.targets: no layer of the UNet ends in {missing[0]!r}; the attention layers are called to_q, to_k, "
            "to_v and to_out.0"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        targets = list(lora.targets)
        config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, init_lora_weights="gaussian", target_modules=targets)
        unet.add_adapter(config)


def _free_biases(unet: UNet2DConditionModel) -> None:
    for module in unet.modules():
        for name, value in module.named_parameters(recurse=False):
            value.requires_grad_(name == "bias" or isinstance(module, NORMS))
    for layer in _scaled_layers(unet):
        parametrize.register_parametrization(layer, "weight", _OutputScale(layer.out_features))


def _scaled_layers(unet: UNet2DConditionModel) -> list[nn.Linear]:
    return [module for name, module in unet.named_modules() if isinstance(module, nn.Linear) and name.endswith(SCALED)]


class _OutputScale(nn.Module):
    """A factor for each output of a linear layer, one at first; the bias learns beside it."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(outputs))

    def forward(self, weight: Tensor) -> Tensor:
        return self.scale[:, None] * weight
