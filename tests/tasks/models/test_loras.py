"""LoRA files: images of diffusers' pipeline with the same files, several, masks, and files that do not fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.jobs import ResolvedLora, ResolvedModel
from tailforge.schemas.settings.annotation import Recording
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.models.loras import check_loras, merge_loras
from tailforge.tasks.models.text_to_image import open_generator
from tests.support.tiny_flows import build_flux
from tests.support.tiny_generators import build_sd, build_sdxl, make_samples
from tests.support.tiny_loras import FORMS, RANK, draw_factors, save_lora

PROMPTS = ("a photo of a gear on a wooden bench", "a gear")
BUILDERS: dict[str, Callable[[], Any]] = {"sd": build_sd, "sdxl": build_sdxl}
ALL = Recording(window=(0.0, 1.0))
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=BUILDERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline with three LoRA files beside it."""
    root = tmp_path_factory.mktemp(kind)
    pipeline = BUILDERS[kind]()
    pipeline.save_pretrained(root / "generator")
    for form in FORMS:
        save_lora(root / f"{form}.safetensors", draw_factors(pipeline), form, alpha=2.0)
    save_lora(root / "second.safetensors", draw_factors(pipeline, seed=1))
    return root


def located(folder: Path, *loras: tuple[str, float]) -> ResolvedModel:
    found = [
        ResolvedLora(path=str(folder), file=f"{name}.safetensors", weight=weight, digest=name) for name, weight in loras
    ]
    return ResolvedModel(path=str(folder / "generator"), digest="0" * 64, loras=tuple(found))


def render(model: ResolvedModel, recording: Recording | None = None) -> list[Rendered]:
    engine = PlainEngine(steps=3, batch_size=4, guidance=3.0)
    return list(render_plain(open_generator(model, CPU), make_samples(3, PROMPTS), engine, recording, Clock()))


def pixels(rendered: list[Rendered]) -> np.ndarray[Any, Any]:
    assert all(row.error is None for row in rendered)
    return np.stack([row.pixels for row in rendered if row.pixels is not None]).astype(int)


def pipeline_images(pipeline: Any) -> np.ndarray[Any, Any]:
    pipeline.set_progress_bar_config(disable=True)
    samples = make_samples(3, PROMPTS)
    made = pipeline(
        [sample.prompt for sample in samples],
        num_inference_steps=3,
        guidance_scale=3.0,
        generator=[torch.Generator("cpu").manual_seed(sample.seed) for sample in samples],
        output_type="np",
    )
    return (made.images * 255).round().astype(int)


@pytest.mark.parametrize("form", FORMS)
def test_images_are_those_of_the_pipeline_with_the_same_file(folder: Path, kind: str, form: str) -> None:
    ours = pixels(render(located(folder, (form, 0.7))))
    pipeline = BUILDERS[kind]()
    pipeline.load_lora_weights(str(folder), weight_name=f"{form}.safetensors", adapter_name="own")
    pipeline.set_adapters(["own"], [0.7])
    assert np.abs(ours - pipeline_images(pipeline)).max() <= 1
    assert np.abs(ours - pixels(render(located(folder)))).max() > 8  # it changes the images at all


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")  # of peft for a second file
def test_several_files_add_up(folder: Path, kind: str) -> None:
    ours = pixels(render(located(folder, ("kohya", 0.5), ("second", 0.8))))
    pipeline = BUILDERS[kind]()
    for name in ("kohya", "second"):
        pipeline.load_lora_weights(str(folder), weight_name=f"{name}.safetensors", adapter_name=name)
    pipeline.set_adapters(["kohya", "second"], [0.5, 0.8])
    assert np.abs(ours - pipeline_images(pipeline)).max() <= 1


def test_weight_0_is_no_lora(folder: Path) -> None:
    assert np.array_equal(pixels(render(located(folder, ("second", 0.0)))), pixels(render(located(folder))))


def test_attention_is_that_of_a_pipeline_with_the_change_saved_in_it(folder: Path, kind: str, tmp_path: Path) -> None:
    pipeline = BUILDERS[kind]()
    merge_loras(pipeline, located(folder, ("second", 0.6)).loras)
    pipeline.save_pretrained(tmp_path / "generator")
    ours, plain = render(located(folder, ("second", 0.6)), ALL), render(located(folder), ALL)
    for one, other, without in zip(ours, render(located(tmp_path), ALL), plain, strict=True):
        assert one.attention is not None
        assert np.array_equal(one.attention, other.attention)
        assert not np.array_equal(one.attention, without.attention)


def test_the_alpha_that_diffusers_notes_counts(folder: Path, kind: str, tmp_path: Path) -> None:
    tensors = load_file(folder / "second.safetensors")
    parts = {name.split(".")[0] for name in tensors}
    note = {f"{part}.lora_alpha": 1.5 for part in parts} | {"unet.alpha_pattern": {"to_q": 6.0}}
    save_file(tensors, tmp_path / "noted.safetensors", {"lora_adapter_metadata": json.dumps(note)})
    noted, plain, scaled = BUILDERS[kind](), BUILDERS[kind](), BUILDERS[kind]()
    own = ResolvedLora(path=str(tmp_path), file="noted.safetensors", weight=1.0, digest="n")
    merge_loras(noted, [own])
    merge_loras(scaled, located(folder, ("second", 1.0)).loras)
    for (name, before), after, full in zip(
        plain.unet.named_parameters(), noted.unet.parameters(), scaled.unet.parameters(), strict=True
    ):
        share = 6.0 / RANK if name.endswith("to_q.weight") else 1.5 / RANK
        assert torch.allclose(after - before, share * (full - before), atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(weights=st.lists(st.floats(0, 2), min_size=1, max_size=3))
def test_a_change_is_linear_in_its_weights(weights: list[float], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("linear")
    pipeline, before = build_sd(), build_sd()
    factors = draw_factors(pipeline)
    save_lora(root / "own.safetensors", factors)
    merge_loras(pipeline, located(root, *(("own", weight) for weight in weights)).loras)
    for (part, name), (up, down) in list(factors.items())[::7]:
        change = getattr(pipeline, part).get_submodule(name).weight - getattr(before, part).get_submodule(name).weight
        assert torch.allclose(change, sum(weights) * up @ down, atol=1e-4)


def rename(tensors: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {name.replace(old, new): tensor for name, tensor in tensors.items()}


def first(tensors: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    name = next(iter(tensors))
    return tensors | {name: change(tensors[name])}


BAD: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "no layer": (
        lambda t: rename(t, "unet.", "unet.other."),
        r"generator\.loras\[0\]: the file matches no layer of the generator; it looked for unet\.other\.down_blocks",
    ),
    "some layers": (lambda t: rename(t, "mid_block", "no_block"), r"the generator lacks \d+ of the file's \d+ layers"),
    "another part": (lambda t: rename(t, "unet.", "transformer."), "cannot be read as a LoRA file"),
    "one factor alone": (lambda t: dict(list(t.items())[1:]), "cannot be read as a LoRA file"),
    "another shape": (
        lambda t: {name: torch.cat([tensor, tensor], 1) if "lora_A" in name else tensor for name, tensor in t.items()},
        r"in the shape \(\d+, \d+\), but the generator's is",
    ),
    "not finite": (lambda t: first(t, lambda each: each * torch.nan), "numbers that are not finite"),
    "another method": (lambda t: t | {"unet.x.dora_scale": torch.ones(1)}, "is of DoRA"),
    "nothing": (lambda t: {"x": torch.ones(1)}, "cannot be read as a LoRA file"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_does_not_fit_is_refused_before_it_is_loaded(case: str, tmp_path: Path) -> None:
    pipeline = build_sd()
    pipeline.save_pretrained(tmp_path / "generator")
    unet = {layer: pair for layer, pair in draw_factors(pipeline).items() if layer[0] == "unet"}
    tensors = load_file(save_lora(tmp_path / "own.safetensors", unet))
    change, message = BAD[case]
    changed = {name: tensor.contiguous() for name, tensor in change(tensors).items()}
    save_file(changed, tmp_path / "own.safetensors")
    model = located(tmp_path, ("own", 1.0))
    with pytest.raises(ModelError, match=message):
        check_loras(model)
    with pytest.raises(ModelError, match=message):
        open_generator(model, CPU)


def test_an_expression_in_a_note_is_not_executed(tmp_path: Path) -> None:
    tensors = load_file(save_lora(tmp_path / "own.safetensors", draw_factors(build_sd())))
    note = json.dumps({"unet.alpha_pattern": {"(a+)+$": 1.0}})
    save_file(tensors, tmp_path / "own.safetensors", {"lora_adapter_metadata": note})
    with pytest.raises(ModelError, match="is an expression"):
        merge_loras(build_sd(), located(tmp_path, ("own", 1.0)).loras)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    build_sd().save_pretrained(tmp_path / "generator")
    (tmp_path / "own.safetensors").write_bytes(b"not a safetensors file")
    with pytest.raises(ModelError, match="not a safetensors file"):
        check_loras(located(tmp_path, ("own", 1.0)))


def test_a_lora_of_xl_is_refused_by_stable_diffusion_1(tmp_path: Path) -> None:
    build_sd().save_pretrained(tmp_path / "generator")
    save_lora(tmp_path / "own.safetensors", draw_factors(build_sdxl()), "kohya")
    with pytest.raises(ModelError, match=r"cannot be read|generator lacks|in the shape"):
        check_loras(located(tmp_path, ("own", 1.0)))


def test_a_transformer_takes_no_lora(tmp_path: Path) -> None:
    build_flux().save_pretrained(tmp_path / "generator")
    with pytest.raises(RecipeError, match=r"the generator is a FluxPipeline, and LoRA files work with"):
        check_loras(located(tmp_path, ("own", 1.0)))
