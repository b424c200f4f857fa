"""A student from a teacher: it learns, its folder loads in transformers, and being killed changes no bit."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from tailforge.schemas.errors import TrainingError, UserError
from tailforge.schemas.training.classifiers import DistillSettings
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tailforge.tasks.training.student import Origins, distill
from tests.support.repository import ROOT
from tests.support.tiny_pictures import NAMES, SCALE, load_folder, save_toy_teacher, toy_pictures
from tests.support.tiny_teachers import state_digest

SETTINGS = DistillSettings(steps=40, batch=32, learning_rate=0.05, padding=1)
ORIGINS = Origins("toy", "toys (train)", "toys (test)")
PROGRAM = """
import sys
from pathlib import Path
import torch
from tailforge.schemas.training.classifiers import DistillSettings
from tailforge.tasks.training.student import distill
from tests.tasks.training.test_student import ORIGINS, TEST, TRAINING
from tests.support.tiny_pictures import load_folder
settings = DistillSettings.model_validate_json(sys.argv[3])
torch.set_num_threads(int(sys.argv[4]))
distill(load_folder(Path(sys.argv[1])), TRAINING, TEST, settings, ORIGINS, Path(sys.argv[2]), checkpoint_every_s=0)
"""
TRAINING, TEST = toy_pictures(120, seed=5), toy_pictures(90, seed=6)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_teacher(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def student(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("students") / "student"
    return folder, distill(load_folder(teacher), TRAINING, TEST, SETTINGS, ORIGINS, folder)


def test_a_student_learns_what_the_teacher_knows(student: tuple[Path, dict[str, Any]]) -> None:
    folder, report = student
    assert report["teacher_accuracy"]["value"] > 0.95
    assert report["student_accuracy"]["value"] > 0.95
    assert report["agreement"]["value"] > 0.95
    assert report["student_accuracy"]["low"] < report["student_accuracy"]["value"]
    assert report["training"] == {
        "origin": "toys (train)",
        "images": 120,
        "by_class": dict.fromkeys(NAMES, 40),
    }
    assert report["test"] == {"origin": "toys (test)", "images": 90, "classes": 3}
    assert report["chance"] == {"guess": 1 / 3, "most_frequent": 1 / 3}
    assert report["losses"][-1][0] == report["kd_steps"] == 40
    assert report["losses"][-1][1] < report["losses"][0][1]
    assert json.loads((folder / "report.json").read_text()) == report
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "preprocessor_config.json", "report.html", "report.json"
    }  # fmt: skip
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    page = (folder / "report.html").read_text()
    assert all(name in page for name in (*NAMES, "toys (test)", f"{report['student_accuracy']['value']:.1%}"[:-1]))
    assert "90 test images of\ntoys (test), which show 3 of the teacher's 3 classes" in page.replace("&#39;", "'")
    assert re.search(r"chance: a guess among 3 classes</th>\s*<td class=\"n\">33.3 %", page)
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("preset", ["resnet-small", "resnet18"])
def test_the_folder_loads_in_transformers_and_says_how_images_are_prepared(
    teacher: Path, tmp_path: Path, preset: str
) -> None:
    settings = SETTINGS.model_copy(update={"steps": 2, "batch": 4, "student": preset})
    distill(load_folder(teacher), TRAINING, TEST, settings, ORIGINS, tmp_path / "student")
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "student").eval()
    prepare = AutoImageProcessor.from_pretrained(tmp_path / "student")
    assert model.config.id2label == dict(enumerate(NAMES))
    again = load_folder(tmp_path / "student")
    prepared = prepare([Image.fromarray(image) for image in TEST.images[:4]], return_tensors="pt").pixel_values
    enlarge = 4 if preset == "resnet18" else 1
    expected = SCALE.from_pixels(TEST.images[:4]).repeat_interleave(enlarge, 2).repeat_interleave(enlarge, 3)
    torch.testing.assert_close(prepared, expected)
    with torch.no_grad():
        torch.testing.assert_close(again.logits(prepared), model(prepared).logits)


def test_the_teacher_is_left_as_it_was(teacher: Path, tmp_path: Path) -> None:
    used = load_folder(teacher)
    before = state_digest(used.module)
    settings = SETTINGS.model_copy(update={"steps": 2, "batch": 4})
    distill(used, TRAINING, TEST, settings, ORIGINS, tmp_path / "student")
    assert state_digest(used.module) == before


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_bits(
    teacher: Path, student: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "student"
    threads = str(torch.get_num_threads())  # another number of threads adds up in another order
    arguments = [sys.executable, "-c", PROGRAM, str(teacher), str(folder), SETTINGS.model_dump_json(), threads]
    with subprocess.Popen(arguments, cwd=ROOT) as child:
        while child.poll() is None and not (folder / "checkpoint.safetensors").exists():
            time.sleep(0.005)
        child.kill()
    assert not (folder / "report.json").exists()
    assert (folder / "checkpoint.safetensors").exists()
    steps: list[int] = []
    report = distill(
        load_folder(teacher), TRAINING, TEST, SETTINGS, ORIGINS, folder, lambda step, loss: steps.append(step)
    )
    assert steps[0] > 1  # it went on
    whole, expected = student
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert report | {"minutes": 0} == expected | {"minutes": 0}
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_a_finished_student_is_not_trained_again(teacher: Path, student: tuple[Path, dict[str, Any]]) -> None:
    folder, report = student

    def fail(step: int, loss: float) -> None:
        raise AssertionError("trained again")

    assert distill(load_folder(teacher), TRAINING, TEST, SETTINGS, ORIGINS, folder, fail) == report


def test_a_folder_with_anything_else_is_refused(
    teacher: Path, student: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    other = SETTINGS.model_copy(update={"temperature": 2.0})
    with pytest.raises(UserError, match="finished model of other settings"):
        distill(load_folder(teacher), TRAINING, TEST, other, ORIGINS, student[0])
    relabelled = Pictures(TRAINING.images, TRAINING.labels[::-1])
    for training, test in ((relabelled, TEST), (TRAINING, relabelled)):
        with pytest.raises(UserError, match="finished model of other settings or inputs"):
            distill(load_folder(teacher), training, test, SETTINGS, ORIGINS, student[0])
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match="not of a training"):
        distill(load_folder(teacher), TRAINING, TEST, SETTINGS, ORIGINS, tmp_path)
    with pytest.raises(UserError, match="cannot be made"):
        distill(load_folder(teacher), TRAINING, TEST, SETTINGS, ORIGINS, tmp_path / "letter.txt")


def test_an_unfinished_student_of_other_settings_is_refused(teacher: Path, tmp_path: Path) -> None:
    def stop(step: int, loss: float) -> None:
        if step == 2:  # the first step's checkpoint is written
            raise KeyboardInterrupt

    begun = (load_folder(teacher), TRAINING, TEST, SETTINGS, ORIGINS, tmp_path, stop)
    with pytest.raises(KeyboardInterrupt):
        distill(*begun, checkpoint_every_s=0)
    other = SETTINGS.model_copy(update={"temperature": 2.0})
    with pytest.raises(TrainingError, match="made under other settings"):
        distill(load_folder(teacher), TRAINING, TEST, other, ORIGINS, tmp_path)


def test_what_a_kill_left_half_written_is_no_foreign_file(teacher: Path, tmp_path: Path) -> None:
    for name in ("checkpoint.tmp", "report.tmp"):
        (tmp_path / name).write_bytes(b"half")
    settings = SETTINGS.model_copy(update={"steps": 2, "batch": 4})
    assert distill(load_folder(teacher), TRAINING, TEST, settings, ORIGINS, tmp_path)["kd_steps"] == 2
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    ("text", "message"), [("{", "Expecting"), ("[1]", "holds a list in place"), ("[" * 100_000, "deeper")]
)
def test_a_report_of_something_else_is_refused(teacher: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UserError, match=rf"report\.json .*{message}"):
        distill(load_folder(teacher), TRAINING, TEST, SETTINGS, ORIGINS, tmp_path)


def test_seeds_decide_the_student(teacher: Path, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> bytes:
        settings = SETTINGS.model_copy(update={"steps": 2, "seed": seed})
        distill(load_folder(teacher), TRAINING, TEST, settings, ORIGINS, tmp_path / name)
        return (tmp_path / name / "model.safetensors").read_bytes()

    first = weights("first", 0)
    assert weights("again", 0) == first
    assert weights("other", 1) != first


def test_labels_count_where_they_are_asked_for(teacher: Path, tmp_path: Path) -> None:
    wrong = Pictures(TRAINING.images, (TRAINING.labels + 1) % len(NAMES))
    settings = SETTINGS.model_copy(update={"label_weight": 20.0, "learning_rate": 0.01})
    without = distill(load_folder(teacher), wrong, TEST, SETTINGS, ORIGINS, tmp_path / "without")
    with_labels = distill(load_folder(teacher), wrong, TEST, settings, ORIGINS, tmp_path / "with")
    assert without["student_accuracy"]["value"] > 0.9
    assert with_labels["student_accuracy"]["value"] < 0.1
    pages = [(tmp_path / name / "report.html").read_text() for name in ("without", "with")]
    assert ["cross entropy with the labels" in page for page in pages] == [False, True]
    most = {row["class"]: row["taken_for"] for row in reversed(with_labels["confusions"])}
    assert most == {NAMES[place]: NAMES[(place + 1) % len(NAMES)] for place in range(len(NAMES))}


def test_chance_is_that_of_the_images_tested(teacher: Path, tmp_path: Path) -> None:
    rows = [row for row, label in enumerate(TEST.labels) if label == 0][:6] + [
        row for row, label in enumerate(TEST.labels) if label == 2
    ][:2]
    settings = SETTINGS.model_copy(update={"steps": 2, "batch": 4})
    tested = type(TEST)(TEST.images[rows], TEST.labels[rows])
    report = distill(load_folder(teacher), TRAINING, tested, settings, ORIGINS, tmp_path)
    assert report["test"]["classes"] == 2
    assert report["chance"] == {"guess": 1 / 3, "most_frequent": 6 / 8}
