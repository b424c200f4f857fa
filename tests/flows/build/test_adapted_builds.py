"""Builds that adapt their generator first: from photographs to a version, cached, resumed, checked."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file

from tailforge.catalog.registry import load_dataset
from tailforge.catalog.sources.models import digest_model
from tailforge.catalog.store import Store
from tailforge.flows.build.prepare import prepare_build
from tailforge.tasks.stages.adaptations import STAGE as ADAPTATIONS
from tests.flows.conftest import Command, build, rows_of, start_from_build
from tests.support.tiny_recipes import write_recipe

pytestmark = [
    pytest.mark.flow,
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]
LEARNING = {"steps": 4, "batch": 4, "learning_rate": 1e-3, "ema_decay": 0.5, "threads": 1}


@pytest.fixture
def adapted_recipe(tiny_recipe: Path) -> Path:
    """The tiny recipe, whose generator is adapted to class folders beside it: nine gears and three benches."""
    for name, count in {"gear": 9, "bench": 3}.items():
        folder = tiny_recipe.parent / "photographs" / name
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng((number, count)).integers(0, 200, (40, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    adapt = {
        "images": {"folder": "photographs", "fit": "stretch"},
        "learning": LEARNING,
        "validation": {"every": 2, "per_class": 2, "steps": 2},
    }
    return write_recipe(tiny_recipe.parent, generator={"base": "generator", "adapt": adapt})


def folder_of(store: Path) -> Path:
    """The one adaptation of a store."""
    (folder,) = (store / "artifacts/adaptations").iterdir()
    return folder


def test_one_build_goes_from_photographs_to_a_version(command: Command, adapted_recipe: Path, tmp_path: Path) -> None:
    code, out, _ = command("plan", adapted_recipe, "--store", tmp_path / "planned", "--json")
    plan = json.loads(out)
    planned = {each["stage"]: each for each in plan["stages"]}
    assert "the generator is not trained yet: 4 steps on 12 images of photographs" in plan["notes"][0]
    assert (code, planned["adaptations"]["missing"], planned["samples"]["missing_rows"]) == (0, 1, 24)
    assert not (tmp_path / "planned/artifacts").exists()

    made = start_from_build(command, adapted_recipe, tmp_path / "store")
    assert made["work"]["adaptations"] == 1
    dataset = load_dataset(Store.open(str(tmp_path / "store")), "tiny")
    folder = folder_of(tmp_path / "store")
    digest = digest_model(folder / "generator")
    assert digest != digest_model(adapted_recipe.parent / "generator")
    assert {json.loads(row["provenance"])["generator"]["digest"] for row in rows_of(made)} == {digest}
    assert dataset.lineage["models"]["generator"]["digest"] == digest
    assert dataset.lineage["fingerprints"]["adaptations"] == [folder.name]
    assert not (folder / "work").exists()

    # Card and report say what was adapted, to what, and show every class.
    training = dataset.generator_training
    assert training is not None
    assert (training.images.images, training.base.digest) == (12, digest_model(adapted_recipe.parent / "generator"))
    card, report = ((Path(made["uri"]) / name).read_text() for name in ("README.md", "report/index.html"))
    told = "tiny-generator was adapted from generator"
    assert told in card
    assert told in report
    assert "After 4 steps. A row per class, from the top: bench, gear." in report
    with Image.open(Path(made["uri"]) / "report/images/adaptation-4.webp") as sheet:
        assert sheet.size == (2 * 32, 2 * 32)

    again = build(command, adapted_recipe, tmp_path / "store")
    assert (again["new"], again["work"]) == (False, {})


def test_a_version_states_the_licence_of_its_photographs(
    command: Command, adapted_recipe: Path, tmp_path: Path
) -> None:
    told = "the licence of the photographs is unknown (training), and the version states CC-BY-4.0 for its own images"
    code, out, _ = command("plan", adapted_recipe, "--store", tmp_path / "store")
    assert code == 0
    assert f"{told}: look whether it may, and set generator.adapt.images.license" in out
    code, _, err = command("build", adapted_recipe, "--store", tmp_path / "store")
    assert code == 0
    assert told in err
    first = load_dataset(Store.open(str(tmp_path / "store")), "tiny")
    assert first.photographs == {"training": "unknown"}

    # A licence is no work: the generator and its images stay.
    code, out, err = command(
        "build", adapted_recipe, "--store", tmp_path / "store", "--json", "--set", "generator.adapt.images.license=mit"
    )
    made = json.loads(out)
    assert (code, made["work"], made["new"]) == (0, {}, True)
    assert "licence" not in err
    dataset = load_dataset(Store.open(str(tmp_path / "store")), "tiny")
    assert dataset.photographs == {"training": "MIT"}
    assert dataset.files["manifest.parquet"] == first.files["manifest.parquet"]
    card, croissant, report = (
        (Path(made["uri"]) / name).read_text() for name in ("README.md", "croissant.json", "report/index.html")
    )
    assert "- training: MIT (https://spdx.org/licenses/MIT.html)" in card
    assert dataset.generator_training is not None
    assert f"(sha256 {dataset.generator_training.images.digest}, licence MIT)" in card
    assert "licence of the photographs for training</dt><dd>MIT" in report
    used = {each["name"]: each for each in json.loads(croissant)["prov:wasGeneratedBy"]["prov:used"]}
    assert used["photographs for training"]["license"] == "https://spdx.org/licenses/MIT.html"
    assert used["generator"]["@id"].startswith("urn:sha256:")


def test_small_photographs_train_a_new_network_that_draws_at_their_size(
    command: Command, adapted_recipe: Path, tmp_path: Path
) -> None:
    recipe = yaml.safe_load(adapted_recipe.read_text())
    adapt = recipe["generator"]["adapt"] | {"images": {"folder": "photographs"}}
    network = {"height": 40, "width": 24, "channels": [16, 16]}
    write_recipe(adapted_recipe.parent, generator={"network": network, "adapt": adapt})
    made = build(command, adapted_recipe, tmp_path / "store")
    assert {(row["width"], row["height"]) for row in rows_of(made)} == {(24, 40)}
    assert "a new network, trained by the build" in Path(made["report"]).read_text()
    row = rows_of(made)[0]
    shutil.rmtree(adapted_recipe.parent / "photographs")
    words = ("--dataset", "tiny", "--store", tmp_path / "store", "--out", tmp_path / "again.png", "--json")
    code, out, err = command("regenerate", row["sample_id"], *words)
    assert code == 0, err
    assert json.loads(out)["equal"]


@pytest.mark.slow
def test_a_night_with_other_photographs_adapts_anew(command: Command, adapted_recipe: Path, tmp_path: Path) -> None:
    first = start_from_build(command, adapted_recipe, tmp_path / "store")
    before = folder_of(tmp_path / "store").name
    gates = build(command, adapted_recipe, tmp_path / "store", "--set", "quality.gates.contrast.min=0.002")
    assert "adaptations" not in gates["work"]
    assert "samples" not in gates["work"]

    Image.new("RGB", (24, 40), (9, 200, 9)).save(adapted_recipe.parent / "photographs/bench/new.png")
    night = build(command, adapted_recipe, tmp_path / "store")
    assert (night["work"]["adaptations"], night["work"]["samples"]) == (1, first["work"]["samples"])
    one, other = (
        {m["sha256"] for row in rows_of(made) for m in row["members"] if m["field"] == "png"} for made in (first, night)
    )
    assert not one & other

    # A model stays while a version has it.
    def collect() -> list[str]:
        """Models that nothing needs, of an old store."""
        for path in (tmp_path / "store").rglob("*"):
            os.utime(path, (0, 0))
        code, out, err = command("gc", "--store", tmp_path / "store", "--json")
        assert code == 0, err
        return [Path(each["path"]).name for each in json.loads(out)["removed"] if each["stage"] == "adaptations"]

    assert collect() == []
    shutil.rmtree(first["uri"])
    assert collect() == []
    shutil.rmtree(gates["uri"])
    assert collect() == [before]


def test_an_image_is_made_again_after_the_photographs_are_gone(
    command: Command, adapted_recipe: Path, tmp_path: Path
) -> None:
    made = start_from_build(command, adapted_recipe, tmp_path / "store")
    shutil.rmtree(adapted_recipe.parent / "photographs")
    shutil.rmtree(adapted_recipe.parent / "generator")
    row = rows_of(made)[0]
    words = ("--dataset", "tiny", "--store", tmp_path / "store", "--out", tmp_path / "again.png", "--json")
    code, out, err = command("regenerate", row["sample_id"], *words)
    assert code == 0, err
    assert json.loads(out)["equal"]


@pytest.mark.slow
def test_a_changed_model_in_the_store_is_not_drawn_with(command: Command, adapted_recipe: Path, tmp_path: Path) -> None:
    first = start_from_build(command, adapted_recipe, tmp_path / "store")
    weights = folder_of(tmp_path / "store") / "generator/unet/diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    code, _, err = command("build", adapted_recipe, "--store", tmp_path / "store", "--set", "engine.steps=3")
    assert code == 1
    assert "is damaged: its files are not those that were written" in err
    mended = build(command, adapted_recipe, tmp_path / "store")
    assert (mended["work"], mended["new"], mended["version"]) == ({"adaptations": 1}, False, first["version"])


@pytest.mark.slow
def test_the_same_training_again_changes_nothing_else(command: Command, adapted_recipe: Path, tmp_path: Path) -> None:
    start_from_build(command, adapted_recipe, tmp_path / "store")
    (table,) = folder_of(tmp_path / "store").glob("*.parquet")
    before = table.read_bytes()
    code, out, err = command("rerun", adapted_recipe, "--store", tmp_path / "store", "--stage", "adaptations", "--json")
    assert code == 0, err
    assert json.loads(out)["work"] == {"adaptations": 1}
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("generator.adapt.images.folder=missing", "missing does not exist; give a folder of images"),
        ("generator.base=missing", "generator.base: 'missing' is not a directory"),
        ("generator.adapt.learning.steps=0", "generator.adapt.learning.steps: must be 1 or more; found 0"),
        ("generator.model=other", "generator.model: unknown key. Known: base, network, adapt"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    override: str, told: str, command: Command, adapted_recipe: Path, tmp_path: Path
) -> None:
    code, _, err = command("build", adapted_recipe, "--store", tmp_path / "store", "--set", override)
    assert code == 2
    assert told in err
    assert not list((tmp_path / "store").glob("artifacts/*"))


def test_an_object_store_is_refused_in_one_error(command: Command, adapted_recipe: Path) -> None:
    for name in ("plan", "build"):
        code, out, err = command(name, adapted_recipe, "--store", "memory://bucket/store")
        assert (code, out) == (2, "")
        assert "generator.adapt trains inside the store, which must be a folder, and memory://bucket/store is an" in err
        assert err.count("\n") == 1


def test_of_two_builds_that_adapt_one_generator_the_second_waits(adapted_recipe: Path, tmp_path: Path) -> None:
    context = prepare_build(str(adapted_recipe), str(tmp_path / "store"))
    store = Store.open(context.store)
    with ThreadPoolExecutor(2) as builds:
        first, second = builds.map(lambda _: ADAPTATIONS.make(store, context), range(2))
    assert first == second  # with the seconds of one training


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_training_goes_on_at_its_checkpoint(
    command: Command, adapted_recipe: Path, tmp_path: Path, prefect_server: str
) -> None:
    words = ["--set", "generator.adapt.learning.steps=120", "--set", "generator.adapt.learning.checkpoint_every_s=0.1"]
    whole = build(command, adapted_recipe, tmp_path / "whole", *words)
    program = [sys.executable, "-m", "tailforge", "build", str(adapted_recipe), "--store", str(tmp_path / "killed")]
    for _ in range(2):
        before = read_step(tmp_path / "killed")
        process = subprocess.Popen([*program, *words], env=os.environ | {"PREFECT_API_URL": prefect_server})
        while process.poll() is None and read_step(tmp_path / "killed") <= before:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert 0 < read_step(tmp_path / "killed") < 120
    made = build(command, adapted_recipe, tmp_path / "killed", *words)
    assert made["work"]["adaptations"] == 1
    one, other = (folder_of(tmp_path / name) for name in ("whole", "killed"))
    assert one.name == other.name
    assert (one / "part-00000.parquet").read_bytes() == (other / "part-00000.parquet").read_bytes()
    assert digest_model(one / "generator") == digest_model(other / "generator")
    tars = [sorted(Path(each["uri"]).glob("shards/*.tar")) for each in (whole, made)]
    assert [tar.read_bytes() for tar in tars[0]] == [tar.read_bytes() for tar in tars[1]]


def read_step(store: Path) -> int:
    """The step of the checkpoint of an unfinished adaptation; 0 without one."""
    found = list(store.glob("artifacts/adaptations/*/work/generator/checkpoint.safetensors"))
    with suppress(FileNotFoundError):
        return int(load_file(found[0])["step"]) if found else 0
    return 0
