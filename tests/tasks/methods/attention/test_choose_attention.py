"""Which layers, steps and tokens are read."""

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from tailforge.schemas.errors import EngineError
from tailforge.tasks.methods.attention.cross_attention import choose_layer, choose_steps, find_layers, grid_at
from tailforge.tasks.models.unet_generator import UNetGenerator
from tests.support.tiny_generators import build_sd, build_sdxl

SD, SDXL = build_sd(), build_sdxl()


def test_layers_of_sdxl_are_one_a_stack() -> None:
    layers = find_layers(SDXL.unet)
    stacks = {layer.name.split(".transformer_blocks.")[0] for layer in layers}
    assert len(layers) == len(stacks) == 7
    assert sorted({layer.level for layer in layers}) == [0, 1]
    assert any(layer.name.endswith("transformer_blocks.1.attn2") for layer in layers)


def test_a_network_without_cross_attention_is_an_error() -> None:
    with pytest.raises(EngineError, match="Linear"):
        find_layers(nn.Linear(2, 2))


def test_the_level_nearest_to_sixteen_by_sixteen_is_chosen() -> None:
    layers = find_layers(SD.unet)
    decoder = {0: "up_blocks.1.attentions.1.", 1: "up_blocks.0.attentions.1."}
    assert choose_layer(layers, 16, 16).name.startswith(decoder[0])
    assert choose_layer(layers, 32, 32).name.startswith(decoder[1])
    assert choose_layer(layers, 64, 64).name.startswith(decoder[1])  # the deepest there is
    middle = [layer for layer in layers if not layer.name.startswith("up_")]
    assert choose_layer(middle, 32, 32).name.startswith("mid_block.")


def build_real_layout(**settings: Any) -> UNet2DConditionModel:
    """Return a UNet of the size of Stable Diffusion 1, or with other settings, without memory for its weights."""
    with torch.device("meta"):
        return UNet2DConditionModel(**settings)


SD1_LAYERS = find_layers(build_real_layout())
SDXL_LAYERS = find_layers(
    build_real_layout(
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        cross_attention_dim=2048,
    )
)


@pytest.mark.parametrize(
    ("height", "width", "block", "grid"),
    [
        (256, 256, 2, (16, 16)),
        (512, 512, 1, (16, 16)),
        (512, 768, 1, (16, 24)),
        (768, 768, 1, (24, 24)),
        (640, 960, 1, (20, 30)),
        (768, 1024, 1, (24, 32)),
        (1024, 1024, 1, (32, 32)),
    ],
)
def test_stable_diffusion_is_read_in_its_decoder_at_every_size(
    height: int, width: int, block: int, grid: tuple[int, int]
) -> None:
    chosen = choose_layer(SD1_LAYERS, height // 8, width // 8)
    assert chosen.name.startswith(f"up_blocks.{block}.attentions.2.")
    assert grid_at(chosen.level, height // 8, width // 8) == grid


@pytest.mark.parametrize(("height", "width"), [(1024, 1024), (832, 1216), (1536, 640), (640, 1536)])
def test_stable_diffusion_xl_is_read_in_its_coarsest_decoder_block(height: int, width: int) -> None:
    chosen = choose_layer(SDXL_LAYERS, height // 8, width // 8)
    assert chosen.name.startswith("up_blocks.0.attentions.2.transformer_blocks.9.")
    assert grid_at(chosen.level, height // 8, width // 8) == (height // 32, width // 32)


@pytest.mark.parametrize(
    ("timesteps", "window", "chosen"),
    [
        ([900, 700, 500, 300, 100], (0.2, 0.8), [700, 500, 300]),
        ([999, 1], (0.2, 0.8), [999]),
        ([999], (0.0, 0.5), [999]),
        ([10, 5], (0.0, 1.0), [10, 5]),
        ([900, 500, 500, 100], (0.2, 0.8), [500, 500]),
    ],
)
def test_steps_in_the_window(timesteps: list[float], window: tuple[float, float], chosen: list[float]) -> None:
    assert choose_steps(timesteps, 1000, window) == chosen


@pytest.mark.parametrize(
    ("prompt", "value", "tokens"),
    [
        ("a photo of a gear on a bench", "gear", ["gear</w>"]),
        ("a gear on a gear", "gear", ["gear</w>"]),
        ("A  Photo of a GEAR", "GEAR", ["gear</w>"]),
        ("a hook on a bench", "hook", ["h", "o", "o", "k</w>"]),
        ("a gear, on a bench", "gear", ["gear</w>"]),
        ("a wooden gear", "wooden gear", ["wooden</w>", "gear</w>"]),
        ("a photo of " * 5 + "a gear", "gear", []),  # beyond the 16 tokens that are read
    ],
)
@pytest.mark.parametrize("pipeline", [SD, SDXL], ids=["sd", "sdxl"])
def test_spans_become_tokens(pipeline: Any, prompt: str, value: str, tokens: list[str]) -> None:
    start = prompt.rindex(value)
    (positions,) = UNetGenerator(pipeline).locate_tokens(prompt, [(start, start + len(value))])
    ids = pipeline.tokenizer(prompt, truncation=True, max_length=16)["input_ids"]
    assert pipeline.tokenizer.convert_ids_to_tokens([ids[i] for i in positions]) == tokens
    if prompt == "a gear on a gear":
        assert positions == [5]
