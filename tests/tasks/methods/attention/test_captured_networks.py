"""Every kind of UNet gives exact maps, whatever its projections are made of, or says clearly that it cannot."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from tailforge.schemas.errors import EngineError
from tailforge.tasks.methods.attention.cross_attention import Capture, find_layers, grid_at
from tests.support.tiny_generators import build_sd, build_sdxl

WORDS = [[[1], [3, 4]], [[2]]]


def build_sd2() -> UNet2DConditionModel:
    """As Stable Diffusion 2: heads by level, and projections around its transformers that are linear."""
    torch.manual_seed(0)
    unet: UNet2DConditionModel = UNet2DConditionModel.from_config(
        build_sd().unet.config, _use_default_values=[], use_linear_projection=True, attention_head_dim=[1, 2]
    )
    return unet.eval()


NETWORKS = {"sd1": build_sd().unet, "sd2": build_sd2(), "sdxl": build_sdxl().unet}


def draw_inputs(unet: Any, size: tuple[int, int] = (16, 16), dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(2, 16, unet.config.cross_attention_dim, generator=generator)
    inputs: dict[str, Any] = {"sample": torch.randn(2, 4, *size, generator=generator), "encoder_hidden_states": text}
    inputs = {name: value.to(dtype) for name, value in inputs.items()}
    if unet.config.addition_embed_type:
        added = {"text_embeds": torch.randn(2, 24, generator=generator), "time_ids": torch.ones(2, 6)}
        inputs["added_cond_kwargs"] = {name: value.to(dtype) for name, value in added.items()}
    return inputs


def capture_of(unet: nn.Module, level: int = 0) -> Capture:
    return Capture(unet, [each for each in find_layers(unet) if each.level == level], WORDS, slice(0, 2), [500.0])


def read(unet: Any, capture: Capture, inputs: dict[str, Any]) -> Tensor:
    """Mean attention [B, N, S] of the captured layers in float64, from what their modules were given."""
    given: list[tuple[Any, Tensor, Tensor]] = []

    def watch(module: Any, args: Any, kwargs: dict[str, Any], _output: Any) -> None:
        given.append((module, args[0], kwargs["encoder_hidden_states"]))

    handles = [each.module.register_forward_hook(watch, with_kwargs=True) for each in capture.layers]
    with torch.no_grad(), capture:
        unet(timestep=torch.tensor(500.0), **inputs)
    for handle in handles:
        handle.remove()
    with torch.no_grad():
        return torch.stack([attend_eagerly(*each) for each in given]).mean(0)


def attend_eagerly(module: Any, image: Tensor, text: Tensor) -> Tensor:
    query, key = module.to_q(image).double(), module.to_k(text).double()
    query, key = (x.unflatten(-1, (module.heads, -1)).transpose(1, 2) for x in (query, key))
    weights: Tensor = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1).mean(1)
    return weights


def check_maps(capture: Capture, truth: Tensor, size: tuple[int, int], tolerance: float = 5e-4) -> None:
    for image, words in enumerate(WORDS):
        for word, tokens in enumerate(words):
            expected = truth[image, :, tokens].sum(-1).reshape(size).numpy()
            assert np.abs(capture.maps(image)[word] - expected).max() < tolerance


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("size", [(16, 16), (18, 10)])
@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_exact(name: str, size: tuple[int, int], level: int) -> None:
    unet = NETWORKS[name]
    capture = capture_of(unet, level)
    check_maps(capture, read(unet, capture, draw_inputs(unet, size)), grid_at(level, *size))


def test_levels_of_stable_diffusion_2_have_their_own_heads() -> None:
    heads = {(each.level, each.module.heads) for each in find_layers(NETWORKS["sd2"])}
    assert heads == {(0, 1), (1, 2)}
    assert isinstance(NETWORKS["sd2"].up_blocks[1].attentions[0].proj_in, nn.Linear)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_is_read_in_single(name: str, dtype: torch.dtype) -> None:
    unet = {"sd1": lambda: build_sd().unet, "sd2": build_sd2, "sdxl": lambda: build_sdxl().unet}[name]().to(dtype)
    capture = capture_of(unet)
    check_maps(capture, read(unet, capture, draw_inputs(unet, dtype=dtype)), (16, 16))
    assert {sums.dtype for sums in capture._sums.values()} == {torch.float32}


class LowRank(nn.Module):
    """A projection with an adapter beside it, in the place of the projection."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = nn.Linear(base.in_features, 2, bias=False), nn.Linear(2, base.out_features, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.base(features) + self.up(self.down(features))
        return output


def test_an_adapter_on_the_projections_is_part_of_the_map() -> None:
    unet = build_sd().unet
    plain, adapted = capture_of(unet), capture_of(unet)
    read(unet, plain, draw_inputs(unet))
    for layer in adapted.layers:
        layer.module.to_q, layer.module.to_k = LowRank(layer.module.to_q), LowRank(layer.module.to_k)
    check_maps(adapted, read(unet, adapted, draw_inputs(unet)), (16, 16))
    assert not np.array_equal(adapted.maps(0), plain.maps(0))


def fuse(unet: Any) -> nn.Module:
    unet.fuse_qkv_projections()
    return unet  # type: ignore[no-any-return]


def compile_apart(unet: Any) -> nn.Module:
    return torch.compile(unet, backend="eager")  # type: ignore[no-any-return]


def compile_in_place(unet: Any) -> nn.Module:
    unet.compile(backend="eager")
    return unet  # type: ignore[no-any-return]


def compile_a_block(unet: Any) -> nn.Module:
    unet.up_blocks[1].attentions[0].transformer_blocks[0].compile(backend="eager")
    return unet  # type: ignore[no-any-return]


def replace_a_block(unet: Any) -> nn.Module:
    unet.up_blocks[1] = torch.compile(unet.up_blocks[1], backend="eager")
    return unet  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (fuse, "was never called .* fused"),
        (compile_apart, "that is not compiled"),
        (compile_in_place, r"is compiled \(as a whole\)"),
        (compile_a_block, r"is compiled \(up_blocks\.1\.attentions\.0\.transformer_blocks\.0\)"),
        (replace_a_block, r"is compiled \(up_blocks\.1\)"),
    ],
)
def test_what_cannot_be_read_is_an_error_not_an_empty_map(change: Callable[[Any], nn.Module], match: str) -> None:
    unet = change(build_sd().unet)
    with pytest.raises(EngineError, match=match):
        read(unet, capture_of(unet), draw_inputs(unet))
