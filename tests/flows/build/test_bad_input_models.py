"""A model that cannot be used is refused before any work: the recipe's key, what was found, what is needed."""

from pathlib import Path

import pytest

from tests.flows.conftest import Command
from tests.support.bad_recipes import (
    Change,
    assert_refused,
    cut,
    invert,
    other_verifier,
    put,
    references,
    remove,
    save_vit,
    search,
    together,
    with_clip,
    with_teacher,
    write,
)
from tests.support.inversion_recipes import MODULE

UNET = "generator/unet/diffusion_pytorch_model.safetensors"
CASES: dict[str, tuple[Change, str]] = {
    "generator folder missing": (put("generator", "model", value="nowhere"), "nowhere.*not a directory"),
    "generator not in catalog": (put("generator", "model", value="catalog:nowhere"), "catalog has no model 'nowhere'"),
    "hub id without revision": (put("generator", "model", value="owner/model"), "must be pinned"),
    "generator that climbs": (put("generator", "model", value="../.."), "leaves the recipe's folder"),
    "weights missing": (remove(UNET), "unet"),
    "weights cut short": (cut(UNET), "diffusion_pytorch_model.safetensors"),
    "index missing": (remove("generator/model_index.json"), "model_index.json"),
    "index broken": (write("generator/model_index.json", "{"), "model_index.json"),
    "config broken": (write("generator/unet/config.json", "not json"), "config.json"),
    "scheduler missing": (remove("generator/scheduler/scheduler_config.json"), "scheduler_config.json"),
    "other pipeline": (write("generator/model_index.json", '{"_class_name": "KolorsPipeline"}'), "KolorsPipeline"),
    "pickled weights only": (
        lambda recipe, folder: (folder / UNET).rename(folder / UNET.replace("safetensors", "bin")),
        "holds its weights as a pickle",
    ),
    "search with a missing encoder": (search(references(3), encoder={"model": "nowhere"}), "nowhere"),
    "search with an encoder that is no CLIP": (
        search(references(3), with_clip, encoder={"model": "generator"}),
        "engine.encoder: .*generator holds a diffusers pipeline, but engine.encoder must be a CLIP model; its folder "
        "'scorer' is one: add subfolder: scorer",
    ),
    "teacher without BatchNorm": (invert(save_vit), "ViTForImageClassification has 0 BatchNorm layers.*Name a conv"),
    "teacher that is a file": (
        invert(put("generator", value={"model": "teacher/model.safetensors"})),
        "'teacher/model.safetensors' is a file; name the folder",
    ),
    "teacher that is no classifier": (
        invert(put("generator", value={"model": "generator"})),
        "generator: .*generator holds a diffusers pipeline, but generator must be an image classifier",
    ),
    "teacher of no known kind": (invert(put("generator", value={"model": "teacher"})), r"names no model_type.*module"),
    "teacher with lost weights": (invert(cut("teacher/model.safetensors")), r"model\.safetensors is \d+ bytes long"),
    "teacher whose code is nowhere": (
        invert(put("generator", "module", value="nowhere:build")),
        r"generator\.module: nowhere is neither in",
    ),
    "teacher without a preparation of its images": (
        invert(remove("teacher/preprocessor_config.json")),
        r"does not give the mean.*give generator\.mean",
    ),
    "teacher of other channels": (invert(put("generator", "mean", value=[0.5])), "1 means, 3 deviations"),
    "image too small": (
        invert(put("generator", "size", value=[2, 2])),
        r"generator\.size\.0: must be 4 or more; found 2",
    ),
    "concept that the teacher does not know": (
        invert(put("concepts", 0, "name", value="wrench")),
        "concept 'wrench', generator: the classifier has no class 'wrench'; .*it has 2: gear, cog, bench",
    ),
    "number that is no class": (
        invert(put("concepts", 0, "name", value="2")),
        "no class '2'; it has 2: gear, cog, bench; name one, or give its place, 0 to 1",
    ),
    "verifier that is the generator": (
        invert(put("quality", "verifier", value={"model": "teacher", "module": MODULE})),
        "quality.verifier: teacher is the generator itself",
    ),
    "two names of one class": (
        invert(put("concepts", 1, "name", value="cog")),
        "concepts 'gear' and 'cog' are both class 0 of the teacher",
    ),
    "verifier that knows other things": (invert(other_verifier), "'gear', quality.verifier: .* no class 'gear'"),
    "pipeline described as a classifier": (
        put("generator", "class_names", value=["gear", "bench"]),
        "describe a classifier, engine plain",
    ),
    "encoder without its folder": (
        search(references(3), encoder={"model": "clip", "subfolder": "inner"}),
        "engine.encoder: .*clip has no folder 'inner'",
    ),
    "encoder that is a classifier": (
        search(references(3), with_teacher, encoder={"model": "teacher"}),
        "engine.encoder: .*teacher holds a model whose config.json names no architecture, but engine.encoder must be a",
    ),
    "encoder with lost weights": (
        search(references(3), cut("clip/model.safetensors")),
        r"engine\.encoder: .*model\.safetensors is \d+ bytes long",
    ),
    "guide with lost weights": (
        search(
            references(3),
            cut("clip/model.safetensors"),
            put("quality", "scorer", value={"model": "clip"}),
            encoder=None,
        ),
        r"quality\.scorer: .*model\.safetensors is \d+ bytes long",
    ),
    "scorer that is a pipeline": (
        put("quality", "scorer", value={"model": "generator"}),
        "quality.scorer: .*generator holds a diffusers pipeline, but quality.scorer must be a CLIP model",
    ),
    "scorer that is part of a pipeline": (
        put("quality", "scorer", value={"model": "generator", "subfolder": "unet"}),
        "quality.scorer: .*unet holds a UNet2DConditionModel, but",
    ),
    "generator that is a CLIP": (
        together(with_clip, put("generator", "model", value="clip")),
        "generator: .*clip holds a CLIP model, but generator must be a diffusers pipeline",
    ),
    "generator that is a classifier": (
        save_vit,
        "generator: .*vit holds an image classifier, but .* must be a diffusers pipeline; engine natural_inversion",
    ),
    "teacher that is a CLIP": (
        invert(with_clip, put("generator", value={"model": "clip"})),
        "generator: .*clip holds a CLIP model, but generator must be an image classifier",
    ),
    "verifier that is a pipeline": (
        put("quality", "verifier", value={"model": "generator/unet"}),
        "quality.verifier: .*unet holds a UNet2DConditionModel, but quality.verifier must be an image classifier",
    ),
    "verifier that is a CLIP": (
        together(with_clip, put("quality", "verifier", value={"model": "clip"})),
        "quality.verifier: .*clip holds a CLIP model, but quality.verifier must be an image classifier",
    ),
    "verifier of no known kind": (
        together(with_teacher, put("quality", "verifier", value={"model": "teacher"})),
        r"quality\.verifier: .*names no model_type.*quality\.verifier\.module",
    ),
    "verifier without weights": (
        together(with_teacher, remove("teacher/config.json"), put("quality", "verifier", value={"model": "teacher"})),
        r"quality\.verifier: .*config\.json is missing",
    ),
    "scorer missing": (put("quality", "scorer", value={"model": "clip"}), "clip"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused(case: str, tiny_recipe: Path, command: Command) -> None:
    assert_refused(CASES[case], tiny_recipe, command)
