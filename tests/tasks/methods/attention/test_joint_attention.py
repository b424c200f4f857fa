"""Captured maps of SD3 and Flux equal joint attention computed in full precision from the layers' inputs."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional

from tailforge.schemas.errors import EngineError
from tailforge.tasks.methods.attention.joint_attention import JointCapture, find_joint_layers, join_positions, rotate

TEXT = 10
# Two images: a word of one token, one of two that lie apart and one that was cut off; then a word that is repeated.
WORDS = [[[1], [3, 7], []], [[2, 5, 6, 9]]]


def build_sd3(qk_norm: str | None, dual: tuple[int, ...]) -> SD3Transformer2DModel:
    torch.manual_seed(0)
    return SD3Transformer2DModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=16,
        qk_norm=qk_norm,
        dual_attention_layers=dual,
    ).eval()


def build_flux() -> FluxTransformer2DModel:
    torch.manual_seed(0)
    return FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 6, 6),
    ).eval()


SD3, SD35, FLUX = build_sd3(None, ()), build_sd3("rms_norm", (0,)), build_flux()
MODELS = pytest.mark.parametrize("model", [SD3, SD35, FLUX], ids=["sd3", "sd3.5", "flux"])


def draw_inputs(model: nn.Module, grid: tuple[int, int] = (6, 6), count: int = 2) -> dict[str, Tensor]:
    """What a pipeline passes for `count` images whose tokens form a grid, at the scheduler's timestep 500."""
    rows, columns = grid
    generator = torch.Generator().manual_seed(1)
    text, pooled = torch.randn(count, TEXT, 16, generator=generator), torch.randn(count, 16, generator=generator)
    inputs = {"encoder_hidden_states": text, "pooled_projections": pooled, "timestep": torch.full((count,), 500.0)}
    if isinstance(model, SD3Transformer2DModel):
        return {**inputs, "hidden_states": torch.randn(count, 4, 2 * rows, 2 * columns, generator=generator)}
    ids = torch.cartesian_prod(torch.zeros(1), torch.arange(rows).float(), torch.arange(columns).float())
    return {
        **inputs,
        "timestep": inputs["timestep"] / 1000,
        "hidden_states": torch.randn(count, rows * columns, 16, generator=generator),
        "img_ids": ids,
        "txt_ids": torch.zeros(TEXT, 3),
    }


def run(model: nn.Module, capture: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad(), capture:
        output: Tensor = model(**inputs, return_dict=False)[0]
    return output


def capture_of(model: nn.Module, words: Any = WORDS, rows: slice = slice(0, 2), single: bool = True) -> JointCapture:
    return JointCapture(model, find_joint_layers(model, single_blocks=single), words, rows, {500.0})


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def project(inputs: Tensor, linear: nn.Linear, norm: Any, heads: int) -> Tensor:
    """Queries or keys [B, H, S, D] in float64, by the textbook."""
    out = functional.linear(inputs.double(), linear.weight.double(), linear.bias.double())
    out = out.unflatten(-1, (heads, -1)).transpose(1, 2)
    if norm is None:
        return out
    return out / (out.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight.double()


def turn(features: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding as a product of complex numbers."""
    cos, sin = (part[:, ::2].double() for part in rotation)
    pairs = torch.view_as_complex(features.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)


@contextlib.contextmanager
def reference(model: nn.Module) -> Any:
    """The whole joint attention [B, N, S], text keys first, of every layer, in float64 from the layer's inputs."""
    found: list[Tensor] = []

    def watch(layer: Any, _args: Any, kwargs: dict[str, Any], _output: Any) -> None:
        image, text = kwargs["hidden_states"], kwargs.get("encoder_hidden_states")
        query = project(image, layer.to_q, layer.norm_q, layer.heads)
        key = project(image, layer.to_k, layer.norm_k, layer.heads)
        if text is not None:
            query = torch.cat([project(text, layer.add_q_proj, layer.norm_added_q, layer.heads), query], 2)
            key = torch.cat([project(text, layer.add_k_proj, layer.norm_added_k, layer.heads), key], 2)
        if kwargs.get("image_rotary_emb") is not None:
            query, key = (turn(x, kwargs["image_rotary_emb"]) for x in (query, key))
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        found.append(scores.softmax(-1).mean(1)[:, TEXT:])

    handles = [m.register_forward_hook(watch, with_kwargs=True) for n, m in model.named_modules() if n.endswith("attn")]
    yield found
    for handle in handles:
        handle.remove()


def close(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=1e-3)  # float16 rounds by 5e-4


@pytest.mark.parametrize("grid", [(6, 6), (6, 4), (3, 8)], ids=str)
@MODELS
def test_maps_equal_full_precision_attention(model: nn.Module, grid: tuple[int, int]) -> None:
    capture = capture_of(model)
    with reference(model) as found:
        run(model, capture, draw_inputs(model, grid))
    assert len(found) == len(capture.layers) == (4 if model is FLUX else 2)
    truth = torch.stack(found).mean(0)
    for image, words in enumerate(WORDS):
        maps = capture.maps(image)
        assert (maps.shape, maps.dtype) == ((len(words), *grid), np.float16)
        for word, tokens in enumerate(words):
            close(maps[word], truth[image, :, tokens].sum(-1).reshape(grid).numpy())
    assert not capture.maps(0)[2].any()


@pytest.mark.parametrize(("single", "layers"), [(False, slice(0, 2)), (True, slice(0, 4))])
def test_single_stream_layers_of_flux_are_an_option(single: bool, layers: slice) -> None:
    capture = capture_of(FLUX, single=single)
    with reference(FLUX) as found:
        run(FLUX, capture, draw_inputs(FLUX))
    close(capture.maps(0)[0], torch.stack(found[layers]).mean(0)[0, :, 1].reshape(6, 6).numpy())


@MODELS
def test_output_is_bit_equal_with_capture(model: nn.Module) -> None:
    inputs = draw_inputs(model)
    assert torch.equal(run(model, capture_of(model), inputs), run(model, contextlib.nullcontext(), inputs))


@MODELS
def test_maps_of_a_batch_are_maps_of_single_runs(model: nn.Module) -> None:
    inputs = draw_inputs(model)
    both = capture_of(model)
    run(model, both, inputs)
    for image in range(2):
        alone = capture_of(model, [WORDS[image]], slice(0, 1))
        run(model, alone, {k: v if k.endswith("ids") else v[image : image + 1] for k, v in inputs.items()})
        close(alone.maps(0), both.maps(image))


@MODELS
def test_the_declared_half_is_read(model: nn.Module) -> None:
    inputs = draw_inputs(model)
    whole, half = capture_of(model), capture_of(model, rows=slice(2, 4))
    run(model, whole, inputs)
    run(model, half, {k: v if k.endswith("ids") else torch.cat([v.flip(0), v]) for k, v in inputs.items()})
    close(half.maps(0), whole.maps(0))


def test_a_paused_pass_adds_nothing() -> None:
    inputs = draw_inputs(FLUX)
    alone, guided = capture_of(FLUX), capture_of(FLUX)
    run(FLUX, alone, inputs)
    with torch.no_grad(), guided:
        FLUX(**inputs)
        with guided.paused():
            FLUX(**{**inputs, "encoder_hidden_states": torch.zeros(2, TEXT, 16)})
    assert np.array_equal(guided.maps(0), alone.maps(0))


@pytest.mark.parametrize(("model", "scale"), [(SD35, 1), (FLUX, 1000)], ids=["sd3.5", "flux"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_are_those_of_the_scheduler(model: nn.Module, scale: int, dtype: torch.dtype) -> None:
    inputs = draw_inputs(model)
    text = inputs["encoder_hidden_states"]
    calls = {  # at each step another text, so that the maps tell which were read
        step: {**inputs, "timestep": torch.full((2,), step).to(dtype) / scale, "encoder_hidden_states": text.roll(i, 1)}
        for i, step in enumerate([977.3, 812.7, 641.1, 250.9])
    }
    together = JointCapture(model, find_joint_layers(model), WORDS, slice(0, 2), {812.7, 641.1})
    with torch.no_grad(), together:
        for call in calls.values():
            model(**call)
    alone = []
    for step in (812.7, 641.1):
        capture = JointCapture(model, find_joint_layers(model), WORDS, slice(0, 2), {step})
        run(model, capture, calls[step])
        alone.append(capture.maps(0).astype(float))
    close(together.maps(0), np.mean(alone, axis=0))


def test_two_networks_can_be_read_at_once() -> None:
    other = build_flux()
    inputs = draw_inputs(FLUX)
    first, second = capture_of(FLUX), capture_of(other)
    with first:
        run(other, second, inputs)
        run(SD3, capture_of(SD3), draw_inputs(SD3))
        run(FLUX, contextlib.nullcontext(), inputs)
    assert np.array_equal(first.maps(0), second.maps(0))


@MODELS
def test_hooks_are_gone_after_an_error(model: nn.Module) -> None:
    before = hooks(model)
    with pytest.raises(EngineError, match="1 prompt row for 2 images"):
        run(model, capture_of(model), draw_inputs(model, count=1))
    assert hooks(model) == before


@MODELS
def test_a_layer_that_was_never_called_is_an_error(model: nn.Module) -> None:
    before = hooks(model)
    with pytest.raises(EngineError, match=r"transformer_blocks\.0\.attn was never called"), capture_of(model):
        pass
    assert hooks(model) == before


@pytest.mark.parametrize("build", [lambda: build_sd3("rms_norm", ()), build_flux], ids=["sd3.5", "flux"])
def test_fused_projections_are_an_error_not_an_empty_map(build: Callable[[], Any]) -> None:
    model = build()
    model.fuse_qkv_projections()
    with pytest.raises(EngineError, match="fused"):
        run(model, capture_of(model), draw_inputs(model))


def test_a_word_beyond_the_text_is_an_error() -> None:
    with pytest.raises(EngineError, match="token 10, but the text of the denoiser has 10"):
        run(SD3, capture_of(SD3, [[[10]], []]), draw_inputs(SD3))


def test_a_mask_is_an_error() -> None:
    inputs = draw_inputs(FLUX)
    allowed = torch.ones(2, 1, 1, TEXT + 36, dtype=torch.bool)
    with pytest.raises(EngineError, match="mask"), torch.no_grad(), capture_of(FLUX):
        FLUX(**inputs, joint_attention_kwargs={"attention_mask": allowed})


def test_other_networks_are_an_error() -> None:
    with pytest.raises(EngineError, match="Linear"):
        find_joint_layers(nn.Linear(2, 2))


def test_rotation_by_no_angle_changes_nothing() -> None:
    features = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rotate(features, torch.ones(3, 4), torch.zeros(3, 4)), features)


@pytest.mark.parametrize(
    ("encoders", "positions"),
    [
        ([(77, [[3], [5, 6]]), (256, [[2, 3], [9]])], [[3, 79, 80], [5, 6, 86]]),
        ([(77, [[3], []]), (256, [[2], [90, 91]])], [[3, 79], [167, 168]]),  # cut off by CLIP alone
        ([(77, [[3]]), (256, [[]])], [[3]]),  # without T5
        ([(512, [[4], [300]])], [[4], [300]]),
        ([(77, []), (256, [])], []),
    ],
)
def test_words_have_a_range_in_each_encoder(encoders: Any, positions: list[list[int]]) -> None:
    assert join_positions(encoders) == positions
