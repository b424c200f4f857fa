"""`tailforge distill` and `tailforge train` of a teacher, as a user calls them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from transformers import ViTConfig, ViTForImageClassification

from tailforge.catalog.registry import load_dataset
from tailforge.catalog.sources.models import digest_model
from tailforge.catalog.store import Store
from tailforge.flows.training.distill_student import name_teacher
from tailforge.schemas.errors import ModelError
from tailforge.schemas.settings.inversion import TeacherSource
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tests.flows.conftest import Command
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.tiny_pictures import NAMES, load_folder, save_toy_teacher, toy_pictures, write_folder, write_parquet

FAST = ("--steps", "3", "--batch", "8")
TEACHER = {
    "kind": "teacher",
    "name": "toy",
    "size_px": 16,
    "threads": 1,
    "pictures": {"kind": "images"},
    "model": {"architecture": "resnet", "widths": [16, 16], "depths": [1, 1]},
    "training": {"steps": 40, "batch": 32, "learning_rate": 0.05, "padding": 1},
}
WORKSHOP = {"kind": "workshop", "train_per_part": 3, "test_per_part": 2, "seed": 1, "workers": 1}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_teacher(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(str(tmp_path_factory.mktemp("store")), create=True)
    for name, concepts in (("parts", NAMES), ("tools", ("gear", "saw"))):
        recipe = make_recipe(name=name, concepts=concepts, splits={"train": 1.0})
        publish_build(make_build(store, recipe, dict.fromkeys(concepts, 10)), {"report/index.html": b"<html>"})
    return store


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    return write_parquet(folder / "toy.parquet", {"train": toy_pictures(60, seed=3), "test": toy_pictures(30, seed=4)})


def test_a_version_gives_a_student_and_its_report(
    command: Command, store: Store, teacher: Path, toys: Path, tmp_path: Path
) -> None:
    out = tmp_path / "student"
    call = ["distill", "parts", "--store", store.uri, "--teacher", teacher, "--test", toys, "--out", out, *FAST]
    code, printed, error = command(*call, "--json")
    assert code == 0
    assert "step 3 of 3" in error
    report = json.loads(printed)
    assert report["training"]["origin"] == "parts@1.0.0 (train)"
    assert report["training"]["images"] == 27
    assert report["student_accuracy"]["images"] == 30
    assert report["teacher"]["digest"] == digest_model(teacher)
    assert (out / "config.json").exists()
    code, printed, _ = command(*call)
    assert code == 0
    assert "report.html" in printed


def test_real_images_give_a_control_with_as_many_of_each_class(
    command: Command, teacher: Path, toys: Path, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "tree", toy_pictures(30, seed=8))
    arguments = ("--teacher", teacher, "--test", folder, "--out", tmp_path / "student", *FAST, "--json")
    code, printed, _ = command("distill", "--real", toys, "--images", 12, *arguments)
    assert code == 0
    report = json.loads(printed)
    assert report["training"]["by_class"] == dict.fromkeys(NAMES, 4)
    assert (report["training"]["origin"], report["test"]["origin"]) == ("toy.parquet (train)", "tree")
    assert str(tmp_path) not in (tmp_path / "student" / "report.html").read_text()


def test_every_training_reads_a_table_whose_paths_start_from_another_folder(
    command: Command, teacher: Path, tmp_path: Path
) -> None:
    """As `tailforge init` writes it: photographs.csv in a folder of its own."""
    lines = ["path,label,split"]
    for split, seed in (("train", 3), ("test", 4)):
        folder = write_folder(tmp_path / "photographs" / split, toy_pictures(12, seed=seed))
        lines += [
            f"{path.relative_to(tmp_path / 'photographs')},{path.parent.name},{split}"
            for path in sorted(folder.rglob("*.png"))
        ]
    table = tmp_path / "recipe" / "photographs.csv"
    table.parent.mkdir()
    table.write_text("\n".join(lines) + "\n")
    short = TEACHER | {"training": {"steps": 2, "batch": 8}}
    (table.parent / "teacher.yaml").write_text(json.dumps(short))
    distil = ["distill", "--real", table, "--test", table, "--teacher", teacher, "--out", tmp_path / "student", *FAST]
    places = ["--models", tmp_path / "models", "--work", tmp_path / "work"]
    train = ["train", table.parent / "teacher.yaml", "--images", table, *places]

    # Without the folder both name the first file that is missing.
    for words in (distil, train):
        code, _, error = command(*words)
        assert code == 2
        assert "000" in error
        code, _, error = command(*words, "--root", tmp_path / "photographs")
        assert code == 0, error

    # In the recipe the folder is relative to the recipe.
    pictures = {"kind": "images", "path": "photographs.csv", "root": "../photographs"}
    (table.parent / "again.yaml").write_text(json.dumps(short | {"name": "again", "pictures": pictures}))
    code, _, error = command("train", table.parent / "again.yaml", *places)
    assert code == 0, error


def test_a_teacher_may_lack_batchnorm(command: Command, toys: Path, tmp_path: Path) -> None:
    names = {"id2label": dict(enumerate(NAMES)), "label2id": {name: place for place, name in enumerate(NAMES)}}
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8,
        **names,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 16, "width": 16}})
    )
    arguments = ("--real", toys, "--test", toys, "--out", tmp_path / "student", *FAST, "--json")
    code, printed, _ = command("distill", "--teacher", tmp_path / "vit", *arguments)
    assert code == 0
    assert json.loads(printed)["teacher"]["model"] == "vit"


def test_a_torch_module_without_its_path_is_explained(command: Command, toys: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "config.json").write_text("{}")
    arguments = ("--real", toys, "--test", toys, "--out", tmp_path / "student", *FAST)
    code, _, error = command("distill", "--teacher", tmp_path / "plain", *arguments)
    assert code == 2
    assert "needs --teacher-module" in error


def test_images_of_another_size_are_cropped_by_a_setting(
    command: Command, teacher: Path, toys: Path, tmp_path: Path
) -> None:
    pictures = toy_pictures(30, seed=8)
    doubled = np.repeat(np.repeat(pictures.images, 2, axis=1), 2, axis=2)
    folder = write_folder(tmp_path / "large", Pictures(doubled, pictures.labels))
    call = ("distill", "--real", toys, "--teacher", teacher, "--test", folder, "--out", tmp_path / "student", *FAST)
    code, _, error = command(*call)
    assert code == 2
    assert "is 32 x 32 pixels (width x height), the classifier reads 16 x 16" in error
    code, printed, error = command(*call, "--fit", "crop", "--json")
    assert code == 0, error
    assert json.loads(printed)["teacher_accuracy"]["value"] > 0.9


def test_errors_about_images_come_before_the_teacher_is_loaded(
    command: Command, teacher: Path, toys: Path, tmp_path: Path
) -> None:
    """Its weights are broken too, which nobody finds out before."""
    shutil.copytree(teacher, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no weights")
    bad = write_folder(tmp_path / "bad", toy_pictures(3, seed=0))
    next(bad.rglob("*.png")).write_bytes(b"no image")
    other = write_folder(tmp_path / "other", toy_pictures(3, seed=0))
    (other / NAMES[0]).rename(other / "saw")
    for test, message in ((bad, "cannot be read as an image"), (other, "no class 'saw'"), (toys, "safetensors")):
        code, _, error = command(
            "distill", "--real", toys, "--teacher", tmp_path / "broken", "--test", test, "--out", tmp_path / "s", *FAST
        )
        assert (code, message in error) == (2, True), error


def mix(known: Pictures, others: Pictures) -> Pictures:
    """Three known pictures and six others."""
    return Pictures(
        np.concatenate([known.images[:3], others.images[:6]]), np.concatenate([known.labels[:3], others.labels[:6]])
    )


def test_what_cannot_be_distilled_is_explained(
    command: Command, store: Store, teacher: Path, toys: Path, tmp_path: Path
) -> None:
    ours = ("--store", store.uri, "--out", tmp_path / "student", *FAST)
    pictures = toy_pictures(3, seed=0)
    mixed = write_parquet(tmp_path / "mixed.parquet", {"test": mix(toy_pictures(60, seed=3), toy_pictures(6, seed=9))})
    small = write_folder(tmp_path / "small", Pictures(pictures.images[:, :8], pictures.labels))
    for arguments, message in (
        (("nothing", "--teacher", teacher, "--test", toys), "has no dataset 'nothing'; it has: parts, tools"),
        (("parts@9.0.0", "--teacher", teacher, "--test", toys), "no version '9.0.0'"),
        (("tools", "--teacher", teacher, "--test", toys), "tools@1.0.0 (train): the classifier has no class 'saw'"),
        (("parts", "--teacher", teacher, "--test", "tools"), "tools@1.0.0 (train): the classifier has no class 'saw'"),
        (("parts", "--teacher", teacher, "--test", small), "0000.png is 16 x 8 pixels"),
        (("parts", "--teacher", teacher, "--test", "parts"), "the test images are the training images"),
        (("parts", "--teacher", teacher, "--test", tmp_path / "no.parquet"), "no file, no folder and no name"),
        (("parts", "--test", toys), "engine plain, which has no teacher"),
        (("parts", "--teacher-module", "net:build", "--test", toys), "which has no teacher; name a classifier"),
        (
            ("parts", "--teacher", teacher, "--teacher-module", "no:n", "--test", toys),
            "--teacher-module: no is neither",
        ),
        (("--real", toys, "--teacher", teacher, "--test", mixed), "3 of the 9 test images of"),
        (("parts", "--teacher", tmp_path / "none", "--test", toys), "--teacher"),
        (("parts", "--teacher", teacher, "--teacher-module", "a b", "--test", toys), "must be package.module:callable"),
        (("parts", "--teacher", teacher, "--test", toys, "--images", 1000), "--images requests 1000"),
        (("parts", "--teacher", teacher, "--test", toys, "--student", "vit"), "--student: "),
        (("parts", "--real", toys, "--teacher", teacher, "--test", toys), "both the version 'parts'"),
        (("--teacher", teacher, "--test", toys), "no training images; name a version"),
        (("parts", "--teacher", "nobody/nothing", "--test", toys), "--teacher nobody/nothing@COMMIT"),
        (("--real", toys, "--test", toys), "name one by --teacher"),
    ):
        code, _, error = command("distill", *arguments, *ours)
        assert (code, message in error) == (2, True), error
    assert not (tmp_path / "student" / "config.json").exists()


def test_the_teacher_of_an_inverted_version_is_its_generator(store: Store, tmp_path: Path) -> None:
    made = Store.open(str(tmp_path), create=True)
    recipe = make_recipe(engine="natural_inversion", generator={"model": "catalog:t", "module": "a:b"})
    publish_build(make_build(made, recipe, {"gear": 4}), {})
    version = load_dataset(made, "parts")
    assert name_teacher(version, "a:b") == TeacherSource(model="catalog:t", module="a:b")
    for named, message in ((None, "never chooses code to run"), ("a:c", "is 'a:b'; name that")):
        with pytest.raises(ModelError, match=message):
            name_teacher(version, named)
    assert name_teacher(load_dataset(store, "parts")) is None


def test_labelled_images_give_a_teacher_that_is_trained_once(command: Command, toys: Path, tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(TEACHER))
    call = ("train", path, "--work", tmp_path / "work", "--models", tmp_path / "models", "--images", toys)
    code, printed, _ = command(*call, "--json")
    assert code == 0
    made = json.loads(printed)
    assert made["accuracy"]["value"] > 0.9
    teacher = load_folder(tmp_path / "models" / "toy")
    assert teacher.class_names == NAMES
    assert f"{made['accuracy']['value']:.2%}" in (tmp_path / "models" / "toy" / "README.md").read_text()
    weights = (tmp_path / "models" / "toy" / "model.safetensors").read_bytes()
    code, printed, error = command(*call, "--json")
    assert (code, json.loads(printed)) == (0, made)
    assert "step" not in error  # nothing was trained again
    assert (tmp_path / "models" / "toy" / "model.safetensors").read_bytes() == weights


def test_a_teacher_is_measured_on_the_classes_that_have_test_images(command: Command, tmp_path: Path) -> None:
    for split, count, seed in (("train", 12, 3), ("test", 9, 4)):
        write_folder(tmp_path / "toys" / split, toy_pictures(count, seed))
    path = tmp_path / "toy.yaml"
    # of one class there is no test image
    shutil.rmtree(tmp_path / "toys" / "test" / NAMES[2])
    path.write_text(yaml.safe_dump({**TEACHER, "training": {"steps": 2, "batch": 8}}))
    (tmp_path / "toys/README.md").write_text("not an image")
    (tmp_path / "toys/.DS_Store").write_text("not worth a word")
    options = ("--work", tmp_path / "work", "--models", tmp_path / "models", "--images", tmp_path / "toys", "--json")
    code, printed, error = command("train", path, *options)
    assert code == 0
    assert "toys: left out: 1 item" in error
    assert "README.md" in error
    assert json.loads(printed)["accuracy"]["images"] == 6
    assert "a teacher of 3 classes" in (tmp_path / "models" / "toy" / "README.md").read_text()


def test_workshop_scenes_give_a_teacher_of_the_parts(command: Command, tmp_path: Path) -> None:
    training = {"steps": 2, "batch": 8}
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump({**TEACHER, "pictures": WORKSHOP, "training": training}))
    code, printed, _ = command("train", path, "--work", tmp_path / "work", "--models", tmp_path / "models", "--json")
    assert code == 0
    assert json.loads(printed)["accuracy"]["images"] == 24
    assert len(load_folder(tmp_path / "models" / "toy").class_names) == 12


def test_a_teacher_that_cannot_be_trained_is_explained(command: Command, toys: Path, tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    for changes, options, message in (
        ({}, (), "toy learns from labelled images; name them by --images"),
        ({}, ("--images", tmp_path / "none"), "none does not exist"),
        ({}, ("--images", write_folder(tmp_path / "tree", toy_pictures(9, 1))), "does not tell training from test"),
        ({"size_px": 24}, ("--images", toys), "is 16 x 16 pixels"),
        ({"size": 16}, (), "size: unknown key; did you mean 'size_px'?"),
        ({"model": {**TEACHER["model"], "depths": [1]}}, (), "2 widths and 1 depths"),  # type: ignore[dict-item]
        ({"channels": 1, "pictures": WORKSHOP}, (), "channels 3"),
    ):  # fmt: skip
        path.write_text(yaml.safe_dump({**TEACHER, **changes}))
        code, _, error = command("train", path, "--work", tmp_path / "work", "--models", tmp_path / "models", *options)
        assert (code, message in error) == (2, True), error
