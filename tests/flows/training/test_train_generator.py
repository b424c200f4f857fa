"""`tailforge train` of a generator from captioned images: kinds of weights, resuming, several devices, bad input."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from tailforge.catalog.sources.models import digest_model
from tailforge.flows.cli.train import print_generator
from tailforge.flows.training.train_generator import train_generator
from tailforge.schemas.errors import ImagesError, ModelError, TrainingError, UserError
from tailforge.schemas.training.generator import GeneratorTraining
from tailforge.tasks.models.pipeline_folders import draw_images, open_pipeline
from tailforge.tasks.training.runs import hold_folder
from tests.flows.conftest import Command, build, rows_of

pytestmark = [
    pytest.mark.flow,
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]
PROMPT = "a photo of a gear on a wooden bench"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Twelve pictures of 32 x 32 pixels, red above and blue below, each with its caption."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 60, (32, 32, 3)).astype(np.uint8)
        pixels[:16, :, 0] += 180
        pixels[16:, :, 2] += 180
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(PROMPT)
    return folder


@pytest.fixture
def recipe(tiny_generator: Path, photographs: Path) -> Callable[..., dict[str, Any]]:
    """A recipe as plain values; changes are merged into its parts."""

    def make(**changes: Any) -> dict[str, Any]:
        learning = {"steps": 6, "batch": 4, "learning_rate": 1e-3, "ema_decay": 0.5, "threads": 1, "warm_up": 0.0}
        data: dict[str, Any] = {
            "kind": "generator",
            "name": "adapted",
            "base": {"model": str(tiny_generator)},
            "images": {"folder": str(photographs)},
            "learning": learning | changes.pop("learning", {}),
            "validation": {"every": 3, "images": 2, "steps": 2} | changes.pop("validation", {}),
        }
        return data | changes

    return make


def train(data: dict[str, Any], folder: Path, work: str = "work", devices: int = 1) -> dict[str, Any]:
    recipe = GeneratorTraining.model_validate(data)
    made: dict[str, Any] = train_generator(recipe, str(folder), str(folder / work), str(folder / "models"), devices)
    return made


def draw(folder: Path) -> Any:
    return draw_images(open_pipeline(folder), [PROMPT] * 2, [1, 2], 4, 1.0)


@pytest.mark.parametrize("weights", ["all", "lora", "bias_scale"])
def test_a_trained_generator_draws_otherwise_and_is_a_plain_pipeline(
    weights: str, recipe: Callable[..., dict[str, Any]], tmp_path: Path, tiny_generator: Path
) -> None:
    made = train(recipe(weights=weights, learning={"learning_rate": 1e-2}), tmp_path)
    folder = Path(made["model"])
    assert made["digest"] == digest_model(folder)
    before, after = (load_file(each / "unet/diffusion_pytorch_model.safetensors") for each in (tiny_generator, folder))
    assert before.keys() == after.keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    if weights == "lora":
        assert all(".attn" in key for key in changed)
    assert not np.array_equal(draw(tiny_generator), draw(folder))
    record = json.loads((folder / "training.json").read_text())
    assert (record["weights"], record["images"]["images"], record["steps"]) == (weights, 12, 6)
    assert [row["step"] for row in record["measures"]["validation"]] == [3, 6]
    assert "was adapted from" in (folder / "README.md").read_text()
    assert len(list((tmp_path / "work/adapted/generator/pictures").glob("*.png"))) == 2
    assert list((tmp_path / "work/adapted/logs").glob("events.*"))


def test_pictures_show_every_class_the_rarest_first(
    recipe: Callable[..., dict[str, Any]], photographs: Path, tmp_path: Path
) -> None:
    folders = tmp_path / "classes"
    for name, numbers in {"gear": range(9), "bench": range(9, 12)}.items():
        (folders / name).mkdir(parents=True)
        for number in numbers:
            shutil.copy(photographs / f"{number}.png", folders / name)
    data = recipe(
        images={"folder": str(folders)},
        learning={"balance": "class", "steps": 3},
        validation={"every": 3, "per_class": 3},
    )
    made = train(data, tmp_path)
    work = Path(made["work"]) / "generator"
    (row,) = json.loads((work / "validation.json").read_text())
    assert row["classes"] == ["bench", "gear"]
    with Image.open(work / "pictures/step-00000003.png") as sheet:
        assert sheet.size == (3 * 32, 2 * 32)
    plain = train(data | {"learning": data["learning"] | {"balance": "none"}}, tmp_path, "plain")
    assert plain["digest"] != made["digest"]


def test_captions_that_are_cut_are_told_before_the_training(
    recipe: Callable[..., dict[str, Any]], photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(recipe(learning={"steps": 1}), tmp_path, "short")
    assert "too long" not in capsys.readouterr().err
    (photographs / "3.txt").write_text(f"{PROMPT} {'beside a hook ' * 9}")
    train(recipe(learning={"steps": 1}), tmp_path, "long")
    told, _, rest = capsys.readouterr().err.partition("\n")
    assert told.startswith("1 of 12 captions too long: the generator's text encoder reads 16 tokens")
    assert "step 1 of 1" in rest


def test_the_next_command_builds_a_dataset_with_it(
    recipe: Callable[..., dict[str, Any]], command: Command, tiny_recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(recipe(structure={"arm": "sadm", "encoder_steps": 3, "group": 4})))
    code, out, _ = command(
        "train", file, "--work", tmp_path / "work", "--models", tmp_path / "models", "--set", "name=new", "--json"
    )
    assert code == 0
    made = json.loads(out)
    assert {"structure/distance", "structure/null", "structure/gradient_ratio"} <= made["figures"].keys()
    version = build(command, tiny_recipe, tmp_path / "store", "--set", f"generator.model={tmp_path / 'models/new'}")
    assert {json.loads(row["provenance"])["generator"]["digest"] for row in rows_of(version)} == {made["digest"]}
    assert "new was adapted from" in (Path(version["uri"]) / "README.md").read_text()


def test_a_training_ends_by_saying_how_a_recipe_names_the_generator(capsys: pytest.CaptureFixture[str]) -> None:
    made = {"validation": [], "game_ended": False, "model": "/my models/new", "digest": "0", "work": "/work"}
    print_generator(made)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("in a recipe: ")]
    assert yaml.safe_load(line.removeprefix("in a recipe: ")) == {"generator": {"model": "/my models/new"}}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"learning": {"precision": "bfloat16"}},
        {"learning": {"flip": True, "passes": 2, "schedule": "cosine"}},
        {"structure": {"arm": "sadm", "encoder": "pixels", "encoder_steps": 2, "group": 4, "warm_up": 0.0}},
        {"structure": {"arm": "frozen", "relative_to": "images", "encoder_steps": 2, "group": 4, "warm_up": 0.0}},
    ],
)
def test_further_settings_train_too(
    changes: dict[str, Any], recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    made = train(recipe(**changes), tmp_path)
    plain = train(recipe(name="plain"), tmp_path)
    assert made["digest"] != plain["digest"]
    assert all(np.isfinite(value) for value in made["figures"].values())
    assert ("structure/distance" in made["figures"]) == ("structure" in changes)


def test_a_published_version_is_learnt_from_by_rows_of_its_manifest(
    recipe: Callable[..., dict[str, Any]], command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    rows = rows_of(build(command, tiny_recipe, tmp_path / "store"))
    concept = rows[0]["concept"]
    chosen = [row for row in rows if row["concept"] == concept and row["split"] == "train"]
    source = {"dataset": "tiny", "store": str(tmp_path / "store"), "where": [["concept", "==", concept]]}
    made = train(recipe(images=source), tmp_path)
    record = json.loads((Path(made["model"]) / "training.json").read_text())
    assert record["images"]["images"] == len(chosen) < len(rows)
    assert record["images"]["origin"] == "tiny@1.0.0 (train)"


def test_the_same_command_again_does_nothing_new(recipe: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    first = train(recipe(), tmp_path)
    checkpoint = tmp_path / "work/adapted/generator/checkpoint.safetensors"
    written = checkpoint.stat().st_mtime_ns
    assert train(recipe(), tmp_path)["digest"] == first["digest"]
    assert checkpoint.stat().st_mtime_ns == written


@pytest.mark.slow
def test_weight_zero_is_plain_training_bit_for_bit(recipe: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    game = {"arm": "sadm", "weight": 0, "group": 4, "warm_up": 0.0}
    digests = [
        train(recipe(name=name, structure=structure), tmp_path)["digest"]
        for name, structure in (("plain", {}), ("zero", game), ("one", game | {"weight": 1, "encoder_steps": 1}))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_from_scratch_forgets_the_bases_weights(recipe: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    made = [
        train(recipe(start=start, name=start, learning={"steps": 1, "learning_rate": 1e-9}), tmp_path)
        for start in ("scratch", "base")
    ]
    scratch, base = (draw(Path(each["model"])) for each in made)
    assert not np.array_equal(scratch, base)


@pytest.mark.slow
def test_two_devices_end_where_one_does(recipe: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    game = {"structure": {"arm": "sadm", "encoder_steps": 3, "warm_up": 0.0, "group": 4}, "learning": {"batch": 8}}
    alone = train(recipe(**game, name="alone"), tmp_path)
    together = train(recipe(**game, name="together"), tmp_path, devices=2)
    one, two = (
        load_file(Path(made["model"]) / "unet/diffusion_pytorch_model.safetensors") for made in (alone, together)
    )
    for key, value in one.items():
        assert torch.allclose(value, two[key], atol=2e-3), key


def bad(change: Callable[[Path], object] | None = None, **recipe: Any) -> Any:
    return change, recipe


def remove_captions(photographs: Path) -> None:
    for file in photographs.glob("*.txt"):
        file.unlink()


def enlarge(photographs: Path) -> None:
    Image.new("RGB", (40, 32)).save(photographs / "3.png")


def empty(photographs: Path) -> None:
    for file in photographs.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (bad(remove_captions), "caption"),
        (bad(lambda folder: (folder / "3.png").write_bytes(b"nonsense")), "3.png"),
        (bad(enlarge), "40 x 32"),
        (bad(empty), "no image"),
        (bad(base={"model": "nowhere"}), "nowhere"),
        (bad(weights="lora", lora={"targets": ["to_nowhere"]}), "to_nowhere"),
    ],
)
def test_bad_input_is_one_clear_error_of_the_users(
    case: Any, message: str, recipe: Callable[..., dict[str, Any]], photographs: Path, tmp_path: Path
) -> None:
    change, settings = case
    if change:
        change(photographs)
    with pytest.raises(UserError, match=message):
        train(recipe(**settings), tmp_path)
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())


@pytest.mark.parametrize(
    ("change", "message"), [(lambda folder: (folder / "3.png").write_bytes(b"nonsense"), "3.png"), (enlarge, "40 x 32")]
)
def test_errors_about_images_come_before_the_base_is_loaded(
    change: Callable[[Path], object],
    message: str,
    recipe: Callable[..., dict[str, Any]],
    photographs: Path,
    tiny_generator: Path,
    tmp_path: Path,
) -> None:
    """Its weights are broken too, which nobody finds out before."""
    base = tmp_path / "base"
    shutil.copytree(tiny_generator, base)
    next((base / "unet").glob("*.safetensors")).write_bytes(b"no weights")
    with pytest.raises(ModelError):
        train(recipe(base={"model": str(base)}), tmp_path)
    change(photographs)
    with pytest.raises(ImagesError, match=message):
        train(recipe(base={"model": str(base)}), tmp_path)


def test_a_model_of_the_same_name_that_others_made_is_kept(
    recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "models/adapted").mkdir(parents=True)
    with pytest.raises(UserError, match="choose another name"):
        train(recipe(), tmp_path)


def test_a_checkpoint_of_other_settings_is_refused_and_kept(
    recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    train(recipe(), tmp_path)
    checkpoint = tmp_path / "work/adapted/generator/checkpoint.safetensors"
    before = checkpoint.read_bytes()
    with pytest.raises(TrainingError, match="other settings"):
        train(recipe(learning={"learning_rate": 2e-3}), tmp_path)
    assert checkpoint.read_bytes() == before


def test_two_trainings_do_not_share_a_folder(recipe: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    data = recipe(validation={"images": 0})
    with (
        hold_folder(tmp_path / "work" / "adapted"),
        pytest.raises(TrainingError, match=r"another training works in .*adapted; wait"),
    ):
        train(data, tmp_path)
    assert train(data, tmp_path)["digest"]


def test_images_that_a_kill_left_half_encoded_are_encoded_again(
    recipe: Callable[..., dict[str, Any]], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(recipe(), tmp_path)
    caption = photographs / "0.txt"
    caption.write_text("another caption")

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tailforge.tasks.training.generator_stages._encode", die)
        with pytest.raises(KeyboardInterrupt):
            train(recipe(), tmp_path)
    caption.write_text(PROMPT)
    assert train(recipe(), tmp_path)["digest"] == first["digest"]
    assert np.load(tmp_path / "work/adapted/images/latents.npy").shape == (12, 4, 16, 16)


def test_a_full_disk_is_one_error_and_the_last_checkpoint_stays(
    recipe: Callable[..., dict[str, Any]], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(recipe(learning={"checkpoint_every_s": 1e-6})))
    words = ("train", file, "--work", tmp_path / "work", "--models", tmp_path / "models")
    real, written = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal written
        written += os.fstat(descriptor).st_size > 100_000  # checkpoints
        if written > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        code, _, err = command(*words)
    assert code == TrainingError.exit_code
    assert "no space is left" in err
    assert "the one before it is kept" in err
    assert "Traceback" not in err
    checkpoint = tmp_path / "work/adapted/generator/checkpoint.safetensors"
    assert int(load_file(checkpoint)["step"]) == 2
    assert not (tmp_path / "models/adapted").exists()
    assert command(*words)[0] == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_training_that_is_killed_ends_in_the_same_bits(recipe: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    game = {"structure": {"arm": "sadm", "encoder_steps": 3, "warm_up": 0.0, "group": 4}}
    data = recipe(**game, learning={"steps": 60, "checkpoint_every_s": 0.1}, validation={"every": 20})
    whole = train(data, tmp_path, "whole")
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(data))
    program = [sys.executable, "-m", "tailforge", "train", str(file)]
    words = ["--work", str(tmp_path / "killed"), "--models", str(tmp_path / "models-killed")]
    checkpoint = tmp_path / "killed/adapted/generator/checkpoint.safetensors"
    for _ in range(3):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = subprocess.Popen([*program, *words], env=os.environ, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run([*program, *words], env=os.environ, check=False).returncode == 0
    first, second = (
        load_file(folder / "unet/diffusion_pytorch_model.safetensors")
        for folder in (Path(whole["model"]), tmp_path / "models-killed/adapted")
    )
    assert all(torch.equal(value, second[key]) for key, value in first.items())
