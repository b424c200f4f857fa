"""Captured maps equal attention computed in full precision from the layer's inputs; hooks never outlive their use."""

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from tailforge.schemas.errors import EngineError
from tailforge.tasks.methods.attention.cross_attention import Capture, Layer, choose_layer, find_layers, grid_at
from tests.support.tiny_generators import build_sd

SD = build_sd()
WORDS = [[[1], [3, 4]], [[2]]]  # two images: one of two words, one of one


def run(unet: nn.Module, capture: Any, size: tuple[int, int] = (16, 16), rows: int = 2, step: float = 500.0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(rows, 4, *size, generator=generator)
    text = torch.randn(rows, 16, 16, generator=generator)
    with torch.no_grad(), capture:
        return unet(latents, torch.tensor(step), encoder_hidden_states=text).sample


def capture_of(unet: nn.Module, rows: slice = slice(0, 2), levels: tuple[int, ...] = (0,)) -> Capture:
    return Capture(unet, [layer for layer in find_layers(unet) if layer.level in levels], WORDS, rows, {500.0})


def hooks(unet: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules())


class Reference:
    """The same maps in float64 from the inputs of every attn2, by the textbook."""

    def __init__(self, layers: list[Any]) -> None:
        self.maps: list[Tensor] = []
        self.layers = layers

    def __enter__(self) -> "Reference":
        self.handles = [layer.module.register_forward_hook(self.watch, with_kwargs=True) for layer in self.layers]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def watch(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any) -> None:
        query = args[0].double() @ module.to_q.weight.double().T
        key = kwargs["encoder_hidden_states"].double() @ module.to_k.weight.double().T
        heads = []
        for q, k in zip(query.chunk(module.heads, -1), key.chunk(module.heads, -1), strict=True):
            heads.append((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1))
        self.maps.append(torch.stack(heads).mean(0))


@pytest.mark.parametrize("size", [(16, 16), (16, 24), (18, 10)])
def test_maps_equal_full_precision_attention(size: tuple[int, int]) -> None:
    unet = SD.unet
    capture = capture_of(unet)
    with Reference(list(capture.layers)) as reference:
        run(unet, capture, size)
    truth = torch.stack(reference.maps).mean(0)
    rows, columns = grid_at(capture.layers[0].level, *size)
    for image, words in enumerate(WORDS):
        maps = capture.maps(image)
        assert maps.shape == (len(words), rows, columns)
        assert maps.dtype == np.float16
        for word, tokens in enumerate(words):
            expected = truth[image, :, tokens].sum(-1).reshape(rows, columns).numpy()
            assert np.abs(maps[word] - expected).max() < 5e-4  # rounding of float16


def test_output_is_bit_equal_with_capture() -> None:
    plain = run(SD.unet, contextlib.nullcontext())
    assert torch.equal(run(SD.unet, capture_of(SD.unet)), plain)


def test_the_declared_half_is_read() -> None:
    whole = capture_of(SD.unet, slice(0, 2))
    run(SD.unet, whole)
    generator = torch.Generator().manual_seed(1)
    latents, text = torch.randn(2, 4, 16, 16, generator=generator), torch.randn(2, 16, 16, generator=generator)
    half = capture_of(SD.unet, slice(2, 4))
    with torch.no_grad(), half:
        SD.unet(
            torch.cat([torch.zeros_like(latents), latents]),
            torch.tensor(500.0),
            encoder_hidden_states=torch.cat([torch.zeros_like(text), text]),
        )
    for image in range(2):
        assert np.abs(whole.maps(image) - half.maps(image)).max() < 1e-3


def test_steps_outside_the_window_add_nothing() -> None:
    capture = capture_of(SD.unet)
    with torch.no_grad(), capture:
        generator = torch.Generator().manual_seed(1)
        latents, text = torch.randn(2, 4, 16, 16, generator=generator), torch.randn(2, 16, 16, generator=generator)
        SD.unet(latents, torch.tensor(500.0), encoder_hidden_states=text)
        inside = [capture.maps(i) for i in range(2)]
        SD.unet(latents * 3, torch.tensor(900.0), encoder_hidden_states=text)
    for image in range(2):
        assert np.array_equal(capture.maps(image), inside[image])


def read(unet: nn.Module, capture: Capture, steps: list[float]) -> None:
    """Calls at some steps, each with other latents."""
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(2, 16, 16, generator=generator)
    with torch.no_grad(), capture:
        for step in steps:
            latents = torch.randn(2, 4, 16, 16, generator=generator)
            unet(latents, torch.tensor(step), encoder_hidden_states=text)


def scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin(-1, keepdim=True), maps.amax(-1, keepdim=True)
    return (maps - low) / (high - low)


@pytest.mark.parametrize(("steps", "early"), [([9.0, 5.0], 1), ([9.0, 5.0, 5.0], 1), ([9.0, 7.0, 5.0, 3.0, 1.0], 2)])
def test_agreement_is_of_the_early_and_the_late_half(steps: list[float], early: int) -> None:
    capture = Capture(SD.unet, [choose_layer(find_layers(SD.unet), 16, 16)], WORDS, slice(0, 2), steps)
    with Reference(list(capture.layers)) as reference:
        read(SD.unet, capture, steps)
    truth = torch.stack(reference.maps)
    for image, words in enumerate(WORDS):
        readings = torch.stack([truth[:, image, :, tokens].sum(-1) for tokens in words], dim=1)
        first, last = scaled(readings[:early].mean(0)), scaled(readings[early:].mean(0))
        expected = torch.minimum(first, last).sum(-1) / torch.maximum(first, last).sum(-1)
        assert capture.agreement(image) == pytest.approx(expected.tolist(), abs=1e-4)
        both = readings.mean(0).reshape(len(words), 16, 16).numpy()
        assert np.abs(capture.maps(image) - both).max() < 5e-4  # every reading counts the same


def test_one_reading_has_nothing_to_agree_with() -> None:
    capture = capture_of(SD.unet)
    run(SD.unet, capture)
    assert capture.agreement(0) is None


def test_two_grids_are_averaged_on_the_finer() -> None:
    one, two = capture_of(SD.unet), capture_of(SD.unet, levels=(0, 1))
    run(SD.unet, one)
    run(SD.unet, two)
    assert {layer.level for layer in two.layers} == {0, 1}
    assert one.maps(0).shape == two.maps(0).shape == (2, 16, 16)
    assert not np.array_equal(one.maps(0), two.maps(0))


def test_nothing_is_left_after_an_error() -> None:
    before, processors = hooks(SD.unet), dict(SD.unet.attn_processors)
    with pytest.raises(EngineError, match="1 prompt row for 2 images"):
        run(SD.unet, capture_of(SD.unet), rows=1)
    assert hooks(SD.unet) == before
    assert SD.unet.attn_processors == processors


def test_a_mask_is_an_error() -> None:
    latents, text = torch.randn(2, 4, 16, 16), torch.randn(2, 16, 16)
    with pytest.raises(EngineError, match="mask"), torch.no_grad(), capture_of(SD.unet):
        SD.unet(latents, 500.0, encoder_hidden_states=text, encoder_attention_mask=torch.ones(2, 16))


class Skipping(nn.Module):
    """Two cross-attentions on one grid, of which the second is called at every other step alone, as caches do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.attentions = nn.ModuleList(Attention(8, cross_attention_dim=16, heads=2, dim_head=4) for _ in range(2))

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor) -> None:
        positions = sample.flatten(2).transpose(1, 2)
        for number, attention in enumerate(self.attentions):
            if number == 0 or timestep % 2 == 0:
                attention(positions, encoder_hidden_states=text)


@pytest.mark.parametrize("size", [(16, 16), (16, 24), (18, 10)])
def test_every_reading_counts_once_where_layers_are_skipped(size: tuple[int, int]) -> None:
    network, steps = Skipping(), [4.0, 3.0, 2.0, 1.0]
    layers = [Layer(f"attentions.{n}", module, 0) for n, module in enumerate(network.attentions)]
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(2, 5, 16, generator=generator)
    capture = Capture(network, layers, WORDS, slice(0, 2), steps)
    with torch.no_grad(), Reference(layers) as reference, capture:
        for step in steps:
            network(torch.randn(2, 8, *size, generator=generator), torch.tensor(step), text)
    assert len(reference.maps) == 6
    expected = torch.stack(reference.maps).mean(0)[0, :, [3, 4]].sum(-1).reshape(size).numpy()
    assert np.abs(capture.maps(0)[1] - expected).max() < 5e-4
    assert capture.agreement(0) is not None


def test_a_layer_that_was_never_called_is_an_error() -> None:
    before = hooks(SD.unet)
    with pytest.raises(EngineError, match=r"attn2 was never called"), capture_of(SD.unet):
        pass
    assert hooks(SD.unet) == before


def test_two_passes_with_the_unconditional_one_paused_are_one_pass_of_both() -> None:
    generator = torch.Generator().manual_seed(1)
    latents, text = torch.randn(2, 4, 16, 16, generator=generator), torch.randn(2, 16, 16, generator=generator)
    steps, empty = [500.0, 400.0, 300.0], torch.zeros_like(text)
    layers = [choose_layer(find_layers(SD.unet), 16, 16)]
    together, apart = (Capture(SD.unet, layers, WORDS, rows, steps) for rows in (slice(2, 4), slice(0, 2)))
    with torch.no_grad(), together:
        for step in steps:
            SD.unet(latents.repeat(2, 1, 1, 1), torch.tensor(step), encoder_hidden_states=torch.cat([empty, text]))
    with torch.no_grad(), apart:
        for step in steps:
            with apart.paused():
                SD.unet(latents, torch.tensor(step), encoder_hidden_states=empty)
            SD.unet(latents, torch.tensor(step), encoder_hidden_states=text)
    for image in range(2):
        assert np.abs(together.maps(image).astype(float) - apart.maps(image)).max() < 5e-4
        assert apart.agreement(image) == pytest.approx(together.agreement(image), abs=1e-4)


def test_two_networks_can_be_read_at_once() -> None:
    other = build_sd().unet
    first, second = capture_of(SD.unet), capture_of(other)
    with first:
        run(other, second)
        run(SD.unet, contextlib.nullcontext())
    assert np.array_equal(first.maps(0), second.maps(0))


def test_maps_of_a_batch_are_maps_of_single_runs() -> None:
    unet = SD.unet
    generator = torch.Generator().manual_seed(5)
    latents, text = torch.randn(2, 4, 16, 16, generator=generator), torch.randn(2, 16, 16, generator=generator)
    layers = [choose_layer(find_layers(unet), 16, 16)]
    both = Capture(unet, layers, WORDS, slice(0, 2), {500.0})
    with torch.no_grad(), both:
        unet(latents, torch.tensor(500.0), encoder_hidden_states=text)
    for image in range(2):
        alone = Capture(unet, layers, [WORDS[image]], slice(0, 1), {500.0})
        with torch.no_grad(), alone:
            unet(latents[image : image + 1], torch.tensor(500.0), encoder_hidden_states=text[image : image + 1])
        assert np.abs(both.maps(image).astype(float) - alone.maps(0)).max() < 5e-4


def test_a_word_that_was_cut_off_has_an_empty_map() -> None:
    capture = Capture(SD.unet, find_layers(SD.unet), [[[], [2]], [[1]]], slice(0, 2), {500.0})
    run(SD.unet, capture)
    assert not capture.maps(0)[0].any()
    assert capture.maps(0)[1].any()
