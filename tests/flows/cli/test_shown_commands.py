"""Every command that the project shows runs as it is written, with small settings after it, or says why it is not run.

A command that is only spoken of, without all of its words, is parsed: its options exist and take these values.
"""

import io
import json
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import webdataset
import yaml
from PIL import Image

from tailforge.catalog.images.reader import open_images
from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.sources.models import MODELS
from tailforge.catalog.sources.recipes import RECIPES, TRAINING, load_training_recipe, recipe_names
from tailforge.catalog.store import Store
from tailforge.flows.build.run import run_build
from tailforge.flows.cli.command_line import WordsError
from tailforge.flows.cli.commands import app
from tests.flows.conftest import Command
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.shown_commands import FENCE, ROOT, Shown, list_mentions, list_typed
from tests.support.tiny_training import tiny_recipe

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
TYPED, MENTIONS = list_typed(), list_mentions()
GATES = "gates: {contrast: {min: 0.0001}, sharpness: {min: 0.0001}}"
SMALL = (
    f"quality={{{GATES}, near_duplicates: null, oversample: 1.0, max_rounds: 1}}",
    "splits={train: 1.0}",
    "engine.steps=2",
)
FEW = {  # concepts and engines with little to do, by recipe
    "workshop": ("concepts=[{name: gear, requested: 3}]", "engine.batch_size=3", "partition_size=3"),
    "deer.yaml": ("concepts=[{name: deer, requested: 1}]", "engine.batch_size=1", "partition_size=1"),
    "workshop_rare": (
        "concepts=[{name: hook, requested: 1, references: references/hook}]",
        "engine={kind: seed_select, steps: 2, batch_size: 1, candidates: 1, finalists: 1, rounds: 1, iterations: 1, "
        "plain_samples: 0, stop: null, target: centroid, encoder: {model: 'catalog:workshop', subfolder: clip}}",
    ),
    "workshop_inversion": ("concepts=[{name: gear, requested: 4}]", "engine.batch_size=4"),
}
ONE = ("concepts=[{name: gear, requested: 1}]", "engine.batch_size=1", "partition_size=1")
ADAPTED = ("learning={steps: 2, batch: 2, learning_rate: 0.001}", "validation={every: 2}")
STUDENT = ["--steps", "2", "--batch", "2", "--padding", "0", "--images", "4"]


def put(*overrides: str) -> list[str]:
    """As words of a command line."""
    return [word for each in overrides for word in ("--set", each)]


# What follows a command's own words, by its first ones, so that it takes seconds.
ADDED: dict[tuple[str, ...], list[str]] = {
    ("list",): ["--store", "store"],
    ("serve",): ["--check"],
    ("explain",): ["--order", "1", "--grid", "4"],
    ("distill",): STUDENT,
    ("evaluate",): [
        *("--store", "drawn", "--size", "16x16", "--fit", "stretch", "--few", "4", "--seeds", "2", "--shares", "1"),
        *("--steps", "2", "--batch", "4", "--checks", "1", "--augmentations", "1"),
    ],
    ("pretrain",): [
        *("--steps", "2", "--batch", "4", "--store", "drawn", "--fit", "crop"),
        *put("patch_px=4", "width=16", "heads=2", "layers=1"),
    ],
    ("train", "adapt-workshop"): put(*ADAPTED),
    ("train", "my-training.yaml"): ["--devices", "1", *put(*ADAPTED)],
    ("train", "teacher-mnist"): put("training={steps: 2, batch: 4, learning_rate: 0.01}"),
    ("train", "teacher-workshop"): [
        *put("training={steps: 2, batch: 4, learning_rate: 0.01}"),
        *put("pictures={kind: workshop, train_per_part: 2, test_per_part: 1, seed: 1, workers: 1}"),
    ],
}
TUTORIAL = "tests/flows/photographs/test_gain_tutorial.py runs all of them"
DEFECTS = "tests/flows/photographs/test_example.py runs all of them"
CHAIN = "trains a generator: tests/flows/photographs/test_chain.py runs all of them"
HUB = "needs a server: tests/flows/cli/test_hub.py runs all of them"
# What is not run here, by its first words, and why.
ONLY_PARSED = {
    ("build", "workshop", "--runner"): "starts workers of their own: tests/flows/runners/test_open.py, test_ray.py",
    ("build", "workshop", "--store", "/shared/store"): "needs a cluster of Ray: tests/flows/runners/test_ray.py",
    ("build", "workshop", "--max-images"): "ends with exit code 3: tests/flows/build/test_limits.py",
    ("build", "workshop", "--max-hours"): "has limits: tests/flows/build/test_limits.py",
    ("--install-completion",): "changes the start file of a shell: tests/flows/cli/test_completion.py",
    ("example", "--out", "parts", "--held-back"): TUTORIAL,
    ("init", "parts"): TUTORIAL,
    ("evaluate", "parts"): TUTORIAL,
    ("show", "parts"): TUTORIAL,
    ("build", "parts/recipe.yaml"): DEFECTS,
    ("report", "part-defects"): DEFECTS,
    ("evaluate", "part-defects"): DEFECTS,
    ("plan", "start/recipe.yaml"): CHAIN,
    ("build", "start/recipe.yaml"): CHAIN,
    (
        "evaluate",
        "workshop",
        "--real",
        "start/photographs.csv",
    ): "test_shapes.py reads such a table",
    ("push",): HUB,
    ("pull",): HUB,
    ("verify", "workshop", "--store", "elsewhere"): HUB,
    ("review",): "serves a page until it is stopped: tests/flows/samples/test_review.py",
    ("setup",): "changes a Prefect server: tests/flows/server/test_setup.py",
    (
        "train",
        "catalog/recipes/train-workshop.yaml",
    ): "tests/flows/training/test_train_embedded.py trains all of it; here its recipe is read",
    ("train", "teacher-cifar10"): "a network for an accelerator; here its recipe is read",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands name: recipes, models, photographs, and `drawn`, a store of drawn versions."""
    folder = tmp_path_factory.mktemp("place")
    for page, file, start in (
        ("how-to/training.md", "deer.yaml", "generator: {model"),
        ("how-to/training.md", "my-training.yaml", "kind: generator"),
        ("tutorials/build-a-data-set.md", "parts.yaml", "name: parts"),
    ):
        blocks = [block[2] for block in FENCE.finditer((ROOT / "docs" / page).read_text()) if block[1] == "yaml"]
        (folder / file).write_text(next(text for text in blocks if start in text))
    own = (RECIPES / "workshop.yaml").read_text().replace("name: workshop", "name: mine", 1)
    (folder / "my-recipe.yaml").write_text(own)
    (folder / "catalog").symlink_to(ROOT / "catalog")
    shutil.copytree(MODELS / "workshop", folder / "models" / "deer")
    draws = np.random.default_rng(0)
    for split in ("train", "test"):
        for part in ("gear", "hook"):
            inside = folder / "photographs" / split / part
            inside.mkdir(parents=True)
            for number in range(6 if part == "gear" else 4):  # a tail
                draw(draws, 32).save(inside / f"{number}.png")
                (inside / f"{number}.txt").write_text(f"a photo of a {part}")
    write_shapes(folder, draws)
    for split in ("train", "validation", "test"):
        for part in ("gear", "hook", "ring"):
            inside = folder / "inspection" / split / part
            inside.mkdir(parents=True)
            for number in range(3):
                draw(draws, 32).save(inside / f"{number}.png")
    for part in ("gear", "hook", "ring"):
        inside = folder / "more" / part
        inside.mkdir(parents=True)
        for number in range(2):
            draw(draws, 32).save(inside / f"{number}.png")
    write_parquet(folder / "photographs.parquet", draws, ("gear", "hook"), 32)
    write_parquet(folder / "mnist.parquet", draws, ("0", "1"), 28)
    write_masks(folder / "cells.parquet", draws)
    store = Store.open(str(folder / "drawn"), create=True)
    for name in ("workshop", "workshop_rare"):
        recipe = make_recipe(name=name, splits={"train": 0.8, "test": 0.2})
        publish_build(make_build(store, recipe, {"gear": 8, "hook": 8, "ring": 8}), {"report/index.html": b"<html>"})
    (folder / "my-masks").mkdir()
    for sample in open_dataset(store.uri, name="workshop", decode=False):
        (folder / "my-masks" / f"{sample['key']}.png").write_bytes(sample["mask"])
    return folder


def write_shapes(folder: Path, draws: np.random.Generator) -> None:
    """The photographs of train as a table and as COCO, and others as a tar."""
    images = open_images(folder / "photographs").of_split("train")
    names = [f"photographs/{each.id}" for each in images]
    lines = [f"{name},{each.caption}" for name, each in zip(names, images, strict=True)]
    (folder / "captions.csv").write_text("\n".join(["image,caption", *lines]))
    told = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "annotations": [{"image_id": number, "category_id": int("hook" in name)} for number, name in enumerate(names)],
        "categories": [{"id": 0, "name": "gear"}, {"id": 1, "name": "hook"}],
    }
    (folder / "annotations").mkdir()
    (folder / "annotations/instances_train.json").write_text(json.dumps(told))
    (folder / "tars").mkdir()
    with webdataset.TarWriter(str(folder / "tars/test-000000.tar"), encoder=False) as writer:
        for number in range(4):
            out = io.BytesIO()
            draw(draws, 32).save(out, "PNG")
            writer.write({"__key__": str(number), "png": out.getvalue(), "cls": b"gear"})


def draw(draws: np.random.Generator, side: int) -> Image.Image:
    return Image.fromarray(draws.integers(0, 255, (side, side, 3), np.uint8))


def write_parquet(file: Path, draws: np.random.Generator, labels: tuple[str, ...], side: int) -> None:
    """Eight labelled pictures of each split."""
    rows = []
    for split in ("train", "test"):
        for number in range(8):
            out = io.BytesIO()
            draw(draws, side).save(out, "PNG")
            rows.append({"split": split, "label": labels[number % len(labels)], "image": out.getvalue()})
    pq.write_table(pa.Table.from_pylist(rows), file)


def write_masks(file: Path, draws: np.random.Generator) -> None:
    """Three pictures with masks of three classes for each split."""
    rows = []
    for split in ("train", "validation", "test") * 3:
        parts = [io.BytesIO(), io.BytesIO()]
        draw(draws, 32).save(parts[0], "PNG")
        Image.fromarray(draws.integers(0, 4, (32, 32), np.uint8)).save(parts[1], "PNG")
        rows.append({"split": split, "image": parts[0].getvalue(), "mask": parts[1].getvalue()})
    pq.write_table(pa.Table.from_pylist(rows), file)


@pytest.fixture(scope="module")
def built(place: Path, prefect_server: str) -> Path:
    """The folder, with two versions of workshop and one each of workshop_inversion and parts in its store."""
    store = str(place / "store")
    run_build(str(place / "parts.yaml"), store, settings_of("parts.yaml"))
    run_build("workshop_inversion", store, settings_of("workshop_inversion"))
    run_build("workshop", store, settings_of("workshop"))
    assert run_build("workshop", store, [*settings_of("workshop"), "seed=2"])["version"] == "2.0.0"
    return place


def settings_of(recipe: str) -> list[str]:
    """Overrides that leave little to do."""
    return [*SMALL, *FEW.get(recipe, ONE)]


def parse(words: tuple[str, ...]) -> None:
    """Errors: what typer says of words that its command does not take."""
    name, *rest = words
    if name in ("--version", "--install-completion"):
        return
    COMMANDS[name].make_context(name, list(rest))


@pytest.mark.parametrize("shown", [each for each in TYPED if each.words[0] == "tailforge"], ids=lambda each: each.line)
def test_what_is_to_be_typed_parses(shown: Shown) -> None:
    parse(shown.words[1:])


@pytest.mark.parametrize("shown", MENTIONS, ids=lambda each: each.line)
def test_what_is_spoken_of_has_these_options(shown: Shown) -> None:
    """It may lack words that a whole command needs."""
    with suppress(missing_word()):
        parse(shown.words[1:])


def missing_word() -> type[Exception]:
    """What typer raises for a command that lacks an argument."""
    with pytest.raises(WordsError) as raised:
        COMMANDS["show"].make_context("show", [])
    return type(raised.value)


def test_targets_of_make_exist() -> None:
    targets = {each.words[1] for each in TYPED if each.words[0] == "make"}
    pages = " ".join(page.read_text() for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    targets |= set(re.findall(r"`make ([a-z-]+)`", pages))
    assert {"demo", "test", "test-slow"} <= targets
    for target in targets:
        result = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, f"{target}: {result.stderr}"


def first_match(words: tuple[str, ...], table: dict[tuple[str, ...], Any]) -> Any:
    """What a table says of the longest first words that it knows, or None."""
    known = [key for key in table if words[: len(key)] == key]
    return table[max(known, key=len)] if known else None


def complete(words: tuple[str, ...]) -> list[str]:
    """The words of a command with what stands for names of the user's put in, and what makes it short after them."""
    sample = next(iter(open_dataset("store/datasets/workshop", decode=False)))
    names = dict.fromkeys(("SAMPLE", "SAMPLE_ID", "0123456789abcdef"), sample["key"])
    names |= {"FOLDER": "photographs", "name=NAME": "name=own"}
    filled = [names.get(word, word) for word in words]
    if words[0] == "build":
        return [*filled, *put(*settings_of(words[1]))]
    if words[0] == "train":  # each a model and a work folder of its own: several examples have one name
        own = re.sub(r"\W+", "-", " ".join(words))
        filled += ["--work", f"work/{own}", "--models", f"made/{own}"]
    return [*filled, *(first_match(words, ADDED) or [])]


RUN = [each for each in TYPED if each.words[0] == "tailforge" and first_match(each.words[1:], ONLY_PARSED) is None]


@pytest.mark.slow
@pytest.mark.flow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("shown", RUN, ids=lambda each: each.line)
def test_what_is_to_be_typed_runs(shown: Shown, built: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built)
    monkeypatch.setattr(typer, "launch", lambda uri: None)
    words = complete(shown.words[1:])
    named = {words[place + 1] for place, word in enumerate(words) if word == "--out"}
    for folder in {"student", "encoder"} | named:  # several examples write to one
        shutil.rmtree(folder, ignore_errors=True)
    code, out, err = command(*words)
    assert code == 0, err
    assert out


@pytest.mark.flow
def test_the_program_that_reads_a_report_runs(built: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (reader,) = [each.words for each in TYPED if each.words[0] == "python"]
    monkeypatch.chdir(built)
    _, out, _ = command("report", "workshop", "--json")
    told = subprocess.run([sys.executable, *reader[1:]], input=out, capture_output=True, text=True, check=True)
    assert told.stdout.strip()


def test_no_reason_is_left_over() -> None:
    """What is only parsed, and what is added, belongs to a command that is shown."""
    shown = [each.words[1:] for each in TYPED if each.words[0] == "tailforge"]
    unused = [key for key in (*ONLY_PARSED, *ADDED) if not any(words[: len(key)] == key for words in shown)]
    assert unused == []


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_catalog_is_planned(name: str, command: Command, tmp_path: Path) -> None:
    code, out, err = command("plan", name, "--store", tmp_path / "store")
    assert code == 0, err
    assert "samples" in out


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_training_recipe_of_the_catalog_is_read(path: Path) -> None:
    if path.name.startswith(TRAINING):
        load_training_recipe(path)


@pytest.mark.flow
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_embedded_generator_can_be_made_again(command: Command, prefect_server: str, tmp_path: Path) -> None:
    """By its own recipe, with fewer pictures and steps."""
    small = yaml.safe_load(yaml.safe_dump(tiny_recipe()))
    overrides = [
        f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in small.items() if key != "name"
    ]
    code, _, err = command(
        "train", "train-workshop", "--work", tmp_path / "work", "--models", tmp_path / "models", *put(*overrides)
    )
    assert code == 0, err
    assert (tmp_path / "models" / "workshop" / "model_index.json").exists()
