"""Whatever a user can get wrong ends at once, with one message and exit code 2, and leaves nothing in the store."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification

from tests.flows.conftest import Command
from tests.inversion_recipes import MODULE, save_teacher
from tests.tiny_clip import save_clip

Change = Callable[[dict[str, Any], Path], object]


def put(*keys: str | int, value: Any) -> Change:
    """A change that sets recipe[keys...] = value."""

    def change(recipe: dict[str, Any], folder: Path) -> None:
        at: Any = recipe
        for key in keys[:-1]:
            at = at.setdefault(key, {}) if isinstance(at, dict) else at[key]
        at[keys[-1]] = value

    return change


def drop(key: str) -> Change:
    return lambda recipe, folder: recipe.pop(key)


def remove(name: str) -> Change:
    return lambda recipe, folder: (folder / name).unlink()


def cut(name: str) -> Change:
    """Half of a file is lost, as after a broken copy."""

    def change(recipe: dict[str, Any], folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return change


def write(name: str, content: str) -> Change:
    def change(recipe: dict[str, Any], folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    return change


def references(count: int, corrupt: bool = False, twice: bool = False) -> Change:
    """A folder of reference photographs for the first concept; from the third on the second again if `twice`."""

    def change(recipe: dict[str, Any], folder: Path) -> None:
        (folder / "photos").mkdir()
        for i in range(count):
            colour = min(i, 1) if twice else i
            Image.new("RGB", (32, 32), (colour * 40, 0, 0)).save(folder / "photos" / f"{i}.png")
        if corrupt:
            (folder / "photos" / "0.png").write_bytes(b"\x89PNG broken")
        recipe["concepts"][0]["references"] = "photos"

    return change


def search(*changes: Change, **engine: Any) -> Change:
    """An engine that searches, for the first concept alone, then more changes."""

    def change(recipe: dict[str, Any], folder: Path) -> None:
        save_clip(folder / "clip")
        recipe["concepts"] = recipe["concepts"][:1]
        recipe["engine"] = {"kind": "seed_select", "batch_size": 4, "encoder": {"model": "clip"}, **engine}
        for each in changes:
            each(recipe, folder)

    return change


def invert(*changes: Change, **engine: Any) -> Change:
    """An engine that inverts a classifier of gears and benches, then more changes."""

    def change(recipe: dict[str, Any], folder: Path) -> None:
        save_teacher(folder / "teacher", ("gear, cog", "bench"))
        recipe |= {"generator": {"model": "teacher", "module": MODULE}, "prompts": {"templates": ["a {concept}"]}}
        recipe["engine"] = {"kind": "natural_inversion", "batch_size": 4, **engine}
        recipe.pop("partition_size")
        for each in changes:
            each(recipe, folder)

    return change


def save_vit(recipe: dict[str, Any], folder: Path) -> None:
    """Name a vision transformer, which has no BatchNorm, as the generator."""
    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=16,
                       patch_size=8)  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder / "vit")
    recipe["generator"] = {"model": "vit"}


def other_verifier(recipe: dict[str, Any], folder: Path) -> None:
    """Name a verifier that knows other things."""
    save_teacher(folder / "verifier", ("cat", "dog"))
    recipe["quality"]["verifier"] = {"model": "verifier", "module": MODULE}


UNET = "generator/unet/diffusion_pytorch_model.safetensors"
CASES: dict[str, tuple[Change, str]] = {
    "unknown key": (put("colour", value=1), "colour.*Extra inputs"),
    "unknown key inside": (put("engine", "stepz", value=1), r"engine\.stepz|stepz"),
    "missing name": (drop("name"), "name: Field required"),
    "missing generator": (drop("generator"), "generator: Field required"),
    "name with spaces": (put("name", value="my set"), "name: .*my set"),
    "name that climbs": (put("name", value="../up"), "name: "),
    "no concepts": (put("concepts", value=[]), "concepts: "),
    "concept twice": (
        put("concepts", value=[{"name": "a b", "wanted": 1}, {"name": "A b", "wanted": 1}]),
        "named twice",
    ),
    "wanted zero": (put("concepts", 0, "wanted", value=0), r"concepts\.0\.wanted"),
    "wanted text": (put("concepts", 0, "wanted", value="many"), r"concepts\.0\.wanted.*many"),
    "negative seed": (put("seed", value=-1), "seed: "),
    "shares above one": (put("splits", value={"train": 0.9, "test": 0.9}), "sum to 1.8"),
    "unknown split": (put("splits", value={"training": 1.0}), "splits"),
    "template without concept": (put("prompts", "templates", value=["a photo"]), "no {concept} slot"),
    "template with unknown slot": (put("prompts", "templates", value=["{concept} in {hue}"]), "{hue}"),
    "template with a brace": (put("prompts", "templates", value=["a {Big} {concept}"]), "brace"),
    "window backwards": (put("annotation", value={"window": [0.8, 0.2]}), "window begins at 0.8"),
    "quantiles crossed": (
        put("quality", "gates", value={"sharpness": {"min_quantile": 0.9, "max_quantile": 0.1}}),
        "not below max_quantile",
    ),
    "gate without number": (put("quality", "gates", value={"sharpness": {"min": float("nan")}}), "finite"),
    "partition of broken batches": (put("partition_size", value=6), "no multiple of engine.batch_size 4, try 8"),
    "empty templates": (put("prompts", "templates", value=[]), "templates"),
    "attribute weight zero": (put("prompts", "attributes", value={"place": {"bench": 0}}), "place"),
    "unknown engine": (put("engine", "kind", value="magic"), "engine"),
    "zero steps": (put("engine", "steps", value=0), r"engine.*steps"),
    "odd height": (put("engine", "height", value=100), r"engine.*height"),
    "unknown scheduler": (put("engine", "scheduler", value="magic"), "scheduler"),
    "unknown gate": (put("quality", "gates", value={"beauty": {"min": 1}}), "beauty"),
    "empty gate": (put("quality", "gates", value={"sharpness": {}}), "a gate needs"),
    "gate that none can pass": (
        put("quality", "gates", value={"sharpness": {"min": 2, "max": 1}}),
        "no image could pass",
    ),
    "clip gate without scorer": (put("quality", "gates", value={"clip_score": {"min": 0}}), "need quality.scorer"),
    "oversample below one": (put("quality", "oversample", value=0.5), "oversample"),
    "unknown transform": (put("augmentation", value={"transforms": [{"name": "MakePretty"}]}), "MakePretty"),
    "unknown transform parameter": (
        put("augmentation", value={"transforms": [{"name": "GaussianBlur", "parameters": {"blurriness": 3}}]}),
        "blurriness",
    ),
    "soft maps of augmented images": (
        lambda recipe, folder: recipe.update(
            sharding={"attention": True}, augmentation={"transforms": [{"name": "HorizontalFlip"}]}
        ),
        "soft maps",
    ),
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
    "other pipeline": (write("generator/model_index.json", '{"_class_name": "FluxPipeline"}'), "FluxPipeline"),
    "pickled weights only": (
        lambda recipe, folder: (folder / UNET).rename(folder / UNET.replace("safetensors", "bin")),
        "holds its weights as a pickle",
    ),
    "references missing": (put("concepts", 0, "references", value="photos"), "photos"),
    "references empty": (references(0), "photos"),
    "references corrupt": (references(3, corrupt=True), "0.png"),
    "references outside": (put("concepts", 0, "references", value="../../etc"), "leaves|outside"),
    "search without references": (search(), "needs reference photographs of every concept; 'gear' has none"),
    "search with two references": (search(references(2)), "holds 2 photograph.s.; give 3 or more"),
    "search with one picture twice": (search(references(3, twice=True)), r"1\.png and 2\.png are the same picture"),
    "search with a broken reference": (search(references(3, corrupt=True)), r"0\.png cannot be read as an image"),
    "search without encoder": (search(references(3), encoder=None), "give engine.encoder or quality.scorer"),
    "search with a missing encoder": (search(references(3), encoder={"model": "nowhere"}), "nowhere"),
    "search with an encoder that is no CLIP": (search(references(3), encoder={"model": "generator"}), "config.json"),
    "search that compares with nothing": (search(references(3), plain_samples=0), "needs 8 plain_samples or more"),
    "search with a stop that compares with nothing": (
        search(references(3), target="centroid", plain_samples=0),
        "stop is a confidence over plain samples",
    ),
    "search with a sampler that adds noise": (
        search(references(3), write("generator/scheduler/scheduler_config.json", '{"_class_name": "DDPMScheduler"}')),
        "DDPMScheduler, which adds noise",
    ),
    "unknown preset": (search(references(3), preset="fast"), "preset"),
    "more weighted steps than steps": (
        search(references(3), steps=2, last_steps=[1, 1, 1]),
        "3 weights for 2 denoising",
    ),
    "noise of an engine that chooses none": (put("sharding", value={"noise": True}), "sharding.noise"),
    "teacher without BatchNorm": (invert(save_vit), "ViTForImageClassification has 0 BatchNorm layers.*Name a conv"),
    "teacher that is a file": (
        invert(put("generator", value={"model": "teacher/model.safetensors"})),
        "'teacher/model.safetensors' is a file; name the folder",
    ),
    "teacher that is no classifier": (
        invert(put("generator", value={"model": "generator"})),
        r"config\.json is missing",
    ),
    "teacher of no known kind": (invert(put("generator", value={"model": "teacher"})), r"names no model_type.*module"),
    "teacher with lost weights": (invert(cut("teacher/model.safetensors")), r"model\.safetensors is \d+ bytes long"),
    "teacher whose code is nowhere": (
        invert(put("generator", "module", value="nowhere:build")),
        r"generator\.module: nowhere is neither in",
    ),
    "teacher that says nothing of its images": (
        invert(remove("teacher/preprocessor_config.json")),
        r"says nothing of the mean.*give generator\.mean",
    ),
    "teacher of other channels": (invert(put("generator", "mean", value=[0.5])), "1 means, 3 deviations"),
    "image too small": (invert(put("generator", "size", value=[2, 2])), r"generator\.teacher\.size\.0.*4 \(found 2\)"),
    "concept that the teacher does not know": (
        invert(put("concepts", 0, "name", value="wrench")),
        "concept 'wrench', generator: the teacher has no class 'wrench'; .*it has 2: gear, cog, bench",
    ),
    "more concepts than a batch has images": (
        invert(put("concepts", value=[{"name": name, "wanted": 1} for name in ("gear", "bench", "saw")]), batch_size=2),
        "engine.batch_size 2: .*3 concepts; raise engine.batch_size",
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
    "inversion with a scorer": (invert(put("quality", "scorer", value={"model": "clip"})), r"quality\.scorer.*no text"),
    "inversion with attributes": (
        invert(put("prompts", "attributes", value={"place": ["bench"]})),
        r"prompts\.attributes: engine natural_inversion",
    ),
    "inversion with partitions": (invert(put("partition_size", value=4)), "set engine.batches_per_run"),
    "inversion with attention": (
        invert(put("annotation", value={"kind": "cross_attention"})),
        "annotation.kind cross_attention",
    ),
    "inversion with noise": (invert(put("sharding", "noise", value=True)), "sharding.noise"),
    "inversion with a preset of nobody": (invert(preset="imagenet"), "preset"),
    "warm start from nothing": (invert(warm_start=True), "raise batches_per_run"),
    "verifier that knows other things": (invert(other_verifier), "'gear', quality.verifier: .* no class 'gear'"),
    "verifier's gate without verifier": (
        put("quality", "gates", value={"verifier_agreement": {"min": 0.5}}),
        "needs quality.verifier",
    ),
    "teacher's gate without teacher": (
        put("quality", "gates", value={"teacher_agreement": {"min": 0.5}}),
        "engine plain has no teacher",
    ),
    "pipeline described as a classifier": (
        put("generator", "class_names", value=["gear", "bench"]),
        "describe a classifier, engine plain",
    ),
    "activation maps of a pipeline": (put("annotation", value={"kind": "class_activation"}), "has no classifier"),
    "scorer missing": (put("quality", "scorer", value={"model": "clip"}), "clip"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_recipe_is_refused(case: str, tiny_recipe: Path, command: Command, tmp_path: Path) -> None:
    change, message = CASES[case]
    recipe = yaml.safe_load(tiny_recipe.read_text())
    change(recipe, tiny_recipe.parent)
    tiny_recipe.write_text(yaml.safe_dump(recipe))
    code, out, err = command("build", tiny_recipe, "--store", tmp_path / "store")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert not list((tmp_path / "store").rglob("*.*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("name: [", "not readable as YAML"), ("- a\n- b\n", "mapping"), ("", "mapping"), ("seed: 1\nseed: 2\n", "twice")],
)
def test_a_file_that_is_no_recipe_is_refused(text: str, message: str, tiny_recipe: Path, command: Command) -> None:
    tiny_recipe.write_text(text)
    code, _, err = command("build", tiny_recipe, "--store", tiny_recipe.parent / "store")
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "no-such-recipe"], "no-such-recipe"),
        (["build", "{recipe}", "--set", "seed"], "--set"),
        (["build", "{recipe}", "--set", "concepts.bolt.wanted=3"], "bolt"),
        (["rerun", "{recipe}", "--stage", "painting"], "painting"),
        (["show", "nothing"], "nothing"),
        (["show", "../../nothing"], "nothing"),
        (["build", "{recipe}", "--store", "memory://store"], "local disk"),
        (["verify", "nothing"], "nothing"),
        (["report", "nothing@1.0.0"], "nothing"),
        (["diff", "nothing@1.0.0", "nothing@2.0.0"], "nothing"),
        (["regenerate", "0123456789abcdef", "--dataset", "nothing"], "nothing"),
        (["train", "no-such-recipe"], "no-such-recipe"),
    ],
)
def test_names_that_do_not_exist(arguments: list[str], message: str, tiny_recipe: Path, command: Command) -> None:
    words = [word.format(recipe=tiny_recipe) for word in arguments]
    if words[0] != "train" and "--store" not in words:
        words += ["--store", str(tiny_recipe.parent / "store")]
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_a_store_under_a_file_is_refused(tiny_recipe: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = command("build", tiny_recipe, "--store", tmp_path / "file" / "store")
    assert code == 2
    assert "cannot be written" in err


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/sys").is_dir(), reason="needs a read-only file system")
def test_a_read_only_store_is_refused(tiny_recipe: Path, command: Command) -> None:
    code, _, err = command("build", tiny_recipe, "--store", "/proc/sys/tailforge-store")
    assert code == 2
    assert "cannot be written" in err
