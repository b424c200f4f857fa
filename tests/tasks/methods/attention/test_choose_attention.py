"""Which layers, steps and tokens are read."""

from typing import Any

import pytest
from torch import nn

from tailforge.schemas.errors import EngineError
from tailforge.tasks.methods.attention.cross_attention import choose_layer, choose_steps, find_layers
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
