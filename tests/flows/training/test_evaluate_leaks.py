"""Test images that a model has seen are dropped by name, or refused."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tailforge.catalog.store import Store
from tailforge.flows.training.evaluation_inputs import read_inputs
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.tiny_evaluations import ask, save
from tests.support.tiny_shapes import SIDE, draw_shape


def recompress(pixels: Any) -> Any:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "JPEG", quality=85)
    return np.asarray(Image.open(out))


TRAINED = draw_shape("bar", 3)[..., 0]  # train/bar/003.png
PLANTED: dict[str, tuple[Callable[[], Any], str, str, str]] = {
    "copy": (lambda: TRAINED, "bar", "copy", "training image"),
    "mirrored": (lambda: TRAINED[:, ::-1], "bar", "mirrored twin", "training image"),
    "recompressed": (lambda: recompress(TRAINED), "bar", "near twin", "training image"),
    "synthetic": (lambda: recompress(draw_shape("dot", 50_000)[..., 0]), "dot", "near twin", "synthetic image"),
    "reference": (lambda: recompress(draw_shape("dot", 70_001)[..., 0]), "dot", "near twin", "reference photograph"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_leaked_test_image_is_dropped_by_name_or_refused(place: Path, tmp_path: Path, planted: str) -> None:
    draw, shape, how, kind = PLANTED[planted]
    real = shutil.copytree(place / "real", tmp_path / "real")
    save(draw(), real / "test" / shape / "planted.png")
    for number in range(3):
        save(draw_shape("dot", 70_000 + number), tmp_path / "photographs" / f"{number}.png")
    publish_references(tmp_path)

    request = ask(tmp_path, "referenced", real, folder=tmp_path)
    found = read_inputs(request)
    (leak,) = found.leaks
    assert leak.name.endswith("planted.png")
    assert (leak.how, leak.kind.partition(" of ")[0]) == (how, kind)
    assert not any(name.endswith("planted.png") for name in found.real["test"].names)
    with pytest.raises(Exception, match=r"1 test image cannot measure .*planted\.png: "):
        read_inputs(ask(tmp_path, "referenced", real, folder=tmp_path, settings={"leaked": "refuse"}))


def publish_references(folder: Path) -> None:
    """Publish version `referenced`, whose recipe names the folder `photographs`."""
    store = Store.open(str(folder / "store"), create=True)
    recipe = make_recipe(name="referenced", concepts=("dot",), splits={"train": 1.0})
    (concept,) = recipe.concepts
    recipe = recipe.model_copy(update={"concepts": (concept.model_copy(update={"references": "photographs"}),)})
    build = make_build(store, recipe, {"dot": 10}, pixels=SIDE, paint=lambda shape, n: draw_shape(shape, 50_000 + n))
    publish_build(build, {"report/index.html": b"<html>"})


def test_a_test_image_of_a_training_group_is_dropped(place: Path, tmp_path: Path) -> None:
    real = shutil.copytree(place / "real", tmp_path / "real")
    for split, name in (("train", "bar/000.png"), ("test", "bar/001.png")):
        (real / split / "metadata.jsonl").write_text(json.dumps({"file_name": name, "group": "module 7"}) + "\n")
    (leak,) = read_inputs(ask(place, "shapes", real)).leaks
    assert (Path(leak.name).name, leak.how) == ("001.png", "same group")


def test_references_that_are_not_there_are_told(place: Path, tmp_path: Path) -> None:
    publish_references(tmp_path)
    assert read_inputs(ask(tmp_path, "referenced", place / "real", folder=tmp_path)).unseen == (
        "referenced@1.0.0: dot",
    )
