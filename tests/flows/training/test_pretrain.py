"""`tailforge pretrain`, as a user calls it, with every use and every kind of masks."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from transformers import AutoModel

from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.store import Store
from tests.flows.conftest import Command
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.tiny_pictures import NAMES, encode, toy_pictures, write_folder, write_parquet

FAST = (
    "--steps",
    "2",
    "--batch",
    "4",
    "--set",
    "patch_px=4",
    "--set",
    "width=16",
    "--set",
    "heads=2",
    "--set",
    "layers=1",
)
ARMS = ("attention", "none", "box", "masks")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(str(tmp_path_factory.mktemp("store")), create=True)
    recipe = make_recipe(concepts=NAMES, splits={"train": 0.7, "test": 0.3})
    publish_build(make_build(store, recipe, dict.fromkeys(NAMES, 10)), {"report/index.html": b"<html>"})
    return store


@pytest.fixture(scope="module")
def masks(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own masks: the version's, turned by a quarter."""
    folder = tmp_path_factory.mktemp("masks")
    for sample in open_dataset(store.uri, name="parts"):
        out = io.BytesIO()
        Image.fromarray(np.rot90(np.asarray(sample["mask"]))).save(out, "PNG")
        (folder / f"{sample['key']}.png").write_bytes(out.getvalue())
    return folder


@pytest.mark.parametrize("use", ["contrastive", "masked", "caption"])
@pytest.mark.parametrize("arm", ARMS)
def test_every_use_and_every_kind_of_masks(
    command: Command, store: Store, masks: Path, tmp_path: Path, use: str, arm: str
) -> None:
    named = masks if arm == "masks" else arm
    call = ["pretrain", "parts", "--use", use, "--masks", named, "--store", store.uri, "--out", tmp_path / "out", *FAST]
    code, printed, error = command(*call, "--json")
    assert code == 0, error
    report = json.loads(printed)
    assert (report["use"], report["masks"]) == (use, masks.name if arm == "masks" else arm)
    assert report["training"]["origin"] == "parts@1.0.0 (train)"
    assert (report["training"]["regions"] > 0) == (arm != "none")
    assert report["settings"]["width"] == 16
    assert f"pretrain {use}: step 2 of 2" in error
    assert AutoModel.from_pretrained(tmp_path / "out").config is not None
    code, again, error = command(*call, "--json")
    assert (code, json.loads(again)) == (0, report)
    assert "step" not in error  # nothing was trained again


def test_features_are_measured_on_labelled_images(command: Command, store: Store, tmp_path: Path) -> None:
    parts = {"train": toy_pictures(30, seed=3), "test": toy_pictures(12, seed=4)}
    toys = write_parquet(tmp_path / "toy.parquet", parts)
    call = ["pretrain", "parts", "--use", "masked", "--store", store.uri, "--out", tmp_path / "out", *FAST]
    code, printed, _ = command(*call, "--probe", toys, "--json")
    assert code == 0
    probe = json.loads(printed)["probe"]
    assert (probe["origin"], probe["training_images"]) == ("toy.parquet", 30)
    assert probe["linear"]["images"] == probe["neighbours"]["images"] == 12
    assert json.loads((tmp_path / "out" / "probe.json").read_text()) == probe
    code, printed, _ = command(*call, "--probe", "parts")
    assert code == 0
    assert "classification of parts by" in printed
    assert "report.json" in printed


def test_settings_and_images_are_those_asked_for(command: Command, store: Store, tmp_path: Path) -> None:
    call = ["pretrain", "parts@1.0.0", "--use", "masked", "--masks", "none", "--store", store.uri, *FAST]
    options = ["--images", 6, "--split", "train", "--seed", 5, "--learning-rate", 0.01, "--set", "beta=0.5"]
    code, printed, _ = command(*call, *options, "--out", tmp_path / "out", "--json")
    assert code == 0
    report = json.loads(printed)
    found = report["settings"]
    assert (found["seed"], found["learning_rate"], found["beta"], found["steps"]) == (5, 0.01, 0.5, 2)
    assert report["training"]["images"] == 6


def test_images_of_a_users_own_are_learnt_with_their_masks(command: Command, tmp_path: Path) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[2:9, 3:12] = 1
    images = [encode(image) for image in toy_pictures(8, seed=1).images]
    pq.write_table(pa.table({"image": images, "mask": [encode(mask[..., None])] * 8}), tmp_path / "own.parquet")
    call = ["pretrain", tmp_path / "own.parquet", "--out", tmp_path / "out", *FAST]
    code, printed, _ = command(*call, "--use", "masked", "--json")
    assert code == 0
    report = json.loads(printed)
    assert report["training"] == {"origin": "own.parquet", "images": 8, "regions": 8}
    code, _, error = command(*call, "--use", "caption")
    assert (code, "8 images of" in error, "without caption and label" in error) == (2, True, True), error


def test_what_cannot_be_trained_is_explained(command: Command, store: Store, tmp_path: Path) -> None:
    whole = write_folder(tmp_path / "whole", toy_pictures(9, seed=1))
    for options, message in (
        (("--use", "contrast"), "--use 'contrast' is unknown; give contrastive, masked, caption; did you mean"),
        (("--masks", "boxes"), "--masks 'boxes' is no folder; give attention, none, box, or a folder"),
        (("--masks", tmp_path), "has no mask"),
        (("--steps", 0), "--steps: must be 1 or more; found 0"),
        (("--set", "betta=1"), "betta: unknown key"),
        (("--set", "beta"), "write it as key.path=value"),
        (("--set", "heads=3"), "width is 16, which 3 heads do not divide"),
        (("--set", "patch_px=5"), "are 16 pixels wide, patches 5"),
        (("--batch", 400), "a batch has 400; lower --batch"),
        (("--images", 400), "--images requests 400"),
        (("--split", "holdout"), "no split 'holdout'"),
        (("--probe", whole), "does not separate training and test images"),
        (("--probe", tmp_path / "none"), "is no file, no folder"),
    ):
        given = ["--use", "masked", "--store", store.uri, "--out", tmp_path / "out", *FAST, *options]
        code, printed, error = command("pretrain", "parts", *given)
        assert (code, message in error, printed) == (2, True, ""), error
    code, _, error = command("pretrain", "nothing", "--use", "masked", "--store", store.uri)
    assert (code, "nothing" in error) == (2, True)
