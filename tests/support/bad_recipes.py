"""Ways to spoil the tiny recipe, and the check that `tailforge build` then says why and does nothing."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification

from tests.support.inversion_recipes import MODULE, save_teacher
from tests.support.tiny_clip import save_clip

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


def together(*changes: Change) -> Change:
    def change(recipe: dict[str, Any], folder: Path) -> None:
        for each in changes:
            each(recipe, folder)

    return change


def name_references(path: str) -> Change:
    """References for the first concept, which near duplicates are compared with."""
    return together(
        put("concepts", 0, "references", value=path), put("quality", "near_duplicates", value={"max_distance": 2})
    )


def references(count: int, corrupt: bool = False, twice: bool = False) -> Change:
    """A folder of reference photographs for the first concept; from the third on the second again if `twice`."""

    def change(recipe: dict[str, Any], folder: Path) -> None:
        (folder / "photos").mkdir()
        for i in range(count):
            colour = min(i, 1) if twice else i
            Image.new("RGB", (32, 32), (colour * 40, 0, 0)).save(folder / "photos" / f"{i}.png")
        if corrupt:
            (folder / "photos" / "0.png").write_bytes(b"\x89PNG broken")
        name_references("photos")(recipe, folder)

    return change


def search(*changes: Change, **engine: Any) -> Change:
    """An engine that searches, for the first concept alone, then more changes."""

    def change(recipe: dict[str, Any], folder: Path) -> None:
        save_clip(folder / "clip")
        recipe["concepts"] = recipe["concepts"][:1]
        recipe["engine"] = {"kind": "seed_select", "batch_size": 4, "encoder": {"model": "clip"}, **engine}
        together(*changes)(recipe, folder)

    return change


def invert(*changes: Change, **engine: Any) -> Change:
    """An engine that inverts a classifier of gears and benches, then more changes."""

    def change(recipe: dict[str, Any], folder: Path) -> None:
        save_teacher(folder / "teacher", ("gear, cog", "bench"))
        recipe |= {"generator": {"model": "teacher", "module": MODULE}, "prompts": {"templates": ["a {concept}"]}}
        recipe["engine"] = {"kind": "natural_inversion", "batch_size": 4, **engine}
        recipe.pop("partition_size")
        together(*changes)(recipe, folder)

    return change


def with_clip(recipe: dict[str, Any], folder: Path) -> None:
    """A CLIP model in the folder clip, and within a pipeline."""
    save_clip(folder / "clip")
    save_clip(folder / "generator" / "scorer")


def with_teacher(recipe: dict[str, Any], folder: Path) -> None:
    """A classifier in the folder teacher."""
    save_teacher(folder / "teacher")


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


def assert_refused(case: tuple[Change, str], recipe_file: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    """`case`: a change, and a pattern of the one message that it must lead to, with nothing done in the store."""
    change, message = case
    recipe = yaml.safe_load(recipe_file.read_text())
    change(recipe, recipe_file.parent)
    recipe_file.write_text(yaml.safe_dump(recipe))
    store = recipe_file.parent.parent / "store"
    code, out, err = command("build", recipe_file, "--store", store)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert not list(store.rglob("*.*"))
