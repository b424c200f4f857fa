"""Spread maps equal the power of an eager self-attention in full precision; nothing outlives its use."""

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import FusedAttnProcessor2_0
from torch import Tensor, nn

from tailforge.schemas.errors import EngineError
from tailforge.tasks.methods.attention.cross_attention import Capture, choose_layer, find_layers, grid_at
from tailforge.tasks.methods.attention.self_affinity import SpreadCapture
from tests.support.tiny_generators import build_sd, build_sdxl

SD = build_sd()
WORDS = [[[1], [3, 4], []], [[2]]]  # two images: of two words and one that was cut off, and of one word
STEPS = [900.0, 500.0]


def inputs(rows: int = 2, size: tuple[int, int] = (16, 16)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 4, *size, generator=generator), torch.randn(rows, 16, 16, generator=generator)


def read(unet: nn.Module, capture: Any, rows: int = 2, size: tuple[int, int] = (16, 16)) -> list[Tensor]:
    latents, text = inputs(rows, size)
    with torch.no_grad(), capture:
        return [unet(latents * step, torch.tensor(step), encoder_hidden_states=text).sample for step in STEPS]


def capture_of(unet: nn.Module, times: int, size: tuple[int, int] = (16, 16)) -> Capture:
    layers = [choose_layer(find_layers(unet), *size)]
    if times == 0:
        return Capture(unet, layers, WORDS, slice(0, 2), STEPS)
    return SpreadCapture(unet, layers, WORDS, slice(0, 2), STEPS, times=times)


def own_attention(unet: nn.Module, capture: Capture) -> Any:
    """attn1 of the block whose attn2 is read."""
    return unet.get_submodule(capture.layers[0].name.replace("attn2", "attn1"))


@contextlib.contextmanager
def matrices(module: Any) -> Any:
    """S [B, N, N] of every call in float64, by the textbook."""
    found: list[Tensor] = []

    def watch(_module: nn.Module, args: tuple[Any, ...], _kwargs: Any, _output: Any) -> None:
        query, key = (args[0].double() @ linear.weight.double().T for linear in (module.to_q, module.to_k))
        query, key = (x.unflatten(-1, (module.heads, -1)).transpose(1, 2) for x in (query, key))
        found.append((query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1).mean(1))

    handle = module.register_forward_hook(watch, with_kwargs=True)
    yield found
    handle.remove()


def hooks(unet: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules())


@pytest.mark.parametrize("size", [(16, 16), (18, 10)])
@pytest.mark.parametrize("times", [1, 4])
def test_maps_are_the_power_of_the_last_self_attention(times: int, size: tuple[int, int]) -> None:
    plain, spread = capture_of(SD.unet, 0, size), capture_of(SD.unet, times, size)
    read(SD.unet, plain, size=size)
    with matrices(own_attention(SD.unet, spread)) as found:
        read(SD.unet, spread, size=size)
    assert len(found) == len(STEPS)
    for image, words in enumerate(WORDS):
        before = torch.from_numpy(plain.maps(image)).double()
        assert before.shape == (len(words), *grid_at(spread.layers[0].level, *size))
        expected = torch.linalg.matrix_power(found[-1][image], times) @ before.flatten(1).T
        maps = spread.maps(image)
        assert maps.dtype == np.float16
        assert np.abs(maps - expected.T.reshape(before.shape).numpy()).max() < 5e-4
        assert not np.array_equal(maps, plain.maps(image))
        assert spread.agreement(image) == plain.agreement(image)  # of the readings as they are
    assert not spread.maps(0)[2].any()


def test_a_constant_map_stays_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = capture_of(SD.unet, 8)
    read(SD.unet, capture)
    monkeypatch.setattr(capture, "_average", lambda *_: torch.full((1, 16, 16), 0.25))
    assert (capture.maps(0) == 0.25).all()


def test_more_spreading_flattens_more() -> None:
    ranges = []
    for times in (0, 1, 2, 8):
        capture = capture_of(SD.unet, times)
        read(SD.unet, capture)
        ranges.append(float(np.ptp(capture.maps(1).astype(float))))
    assert ranges == sorted(ranges, reverse=True)
    assert ranges[1] < ranges[0]


def test_output_is_bit_equal_with_spreading() -> None:
    plain = read(SD.unet, contextlib.nullcontext())
    assert all(map(torch.equal, read(SD.unet, capture_of(SD.unet, 4)), plain))


def test_only_the_declared_rows_are_read() -> None:
    alone, guided = capture_of(SD.unet, 2), capture_of(SD.unet, 2)
    guided.rows = slice(2, 4)
    latents, text = inputs()
    with torch.no_grad(), alone, guided:
        for step in STEPS:
            for capture, rows in ((alone, [0, 1]), (guided, [1, 0, 0, 1])):
                with contextlib.ExitStack() as stack:
                    stack.enter_context((guided if capture is alone else alone).paused())
                    SD.unet(latents[rows], torch.tensor(step), encoder_hidden_states=text[rows])
    for image in range(2):
        np.testing.assert_allclose(guided.maps(image).astype(float), alone.maps(image).astype(float), atol=5e-4)


def test_an_image_that_is_not_finite_spoils_no_other() -> None:
    latents, text = inputs()
    sound, spoilt = capture_of(SD.unet, 3), capture_of(SD.unet, 3)
    for capture, factor in ((sound, 1.0), (spoilt, float("nan"))):
        with torch.no_grad(), capture:
            for step in STEPS:
                scaled = torch.stack([latents[0] * factor, latents[1]])
                SD.unet(scaled, torch.tensor(step), encoder_hidden_states=text)
    assert np.isnan(spoilt.maps(0)[:2]).any()
    assert np.array_equal(spoilt.maps(1), sound.maps(1))


def test_the_last_of_stacked_blocks_is_taken() -> None:
    unet = build_sdxl().unet
    layer = next(layer for layer in find_layers(unet) if layer.level == 1 and layer.name.startswith("up_"))
    capture = SpreadCapture(unet, [layer], WORDS, slice(0, 2), STEPS, times=1)
    assert capture._self_attention[0].endswith("transformer_blocks.1.attn1")
    assert not capture._self_attention[1].is_cross_attention


def test_hooks_are_gone_after_an_error() -> None:
    before = hooks(SD.unet)
    with pytest.raises(EngineError, match="1 prompt row for 2 images"):
        read(SD.unet, capture_of(SD.unet, 2), rows=1)
    assert hooks(SD.unet) == before
    read(SD.unet, capture_of(SD.unet, 2))
    assert hooks(SD.unet) == before


def test_fused_self_attention_is_an_error_not_an_old_map() -> None:
    unet = build_sd().unet
    capture = capture_of(unet, 2)
    module = own_attention(unet, capture)
    module.fuse_projections()
    module.set_processor(FusedAttnProcessor2_0())
    with pytest.raises(EngineError, match=r"attn1 gave no queries and keys of the 256 positions"):
        read(unet, capture)
