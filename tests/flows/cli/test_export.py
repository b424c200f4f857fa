"""`tailforge export`: what it prints, what it refuses, and that it needs no more than reading does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tailforge.catalog.store import Store
from tests.flows.conftest import Command
from tests.support.drawn_version import NAME, draw_masks, write_version
from tests.support.repository import ROOT


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with dataset `drawn`: five images of train, two of test."""
    store = Store.open(str(tmp_path / "store"), create=True)
    write_version(store, {"train": draw_masks(), "test": draw_masks()[:2]})
    return tmp_path / "store"


def test_json_tells_what_was_written(store: Path, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "coco"
    code, printed, err = command("export", NAME, "--format", "coco", "--out", out, "--store", store, "--json")
    assert code == 0, err
    made = json.loads(printed)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert made == {
        "name": NAME,
        "version": "1.0.0",
        "format": "coco",
        "folder": str(out),
        "splits": {"test": 2, "train": 5},
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
    }


def test_a_person_reads_one_line(store: Path, command: Command, tmp_path: Path) -> None:
    words = ("--format", "yolo", "--out", tmp_path / "yolo", "--split", "test", "--store", store)
    code, printed, err = command("export", f"{NAME}@1.0.0", *words)
    assert code == 0, err
    assert printed.startswith(f"drawn@1.0.0 (test 2) as yolo in {tmp_path / 'yolo'}: 5 files, ")
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "nothing"}, "has no dataset 'nothing'"),
        ({"dataset": "drawn@2.0.0"}, "has no version '2.0.0'"),
        ({"--format": "kitti"}, "no format 'kitti'"),
        ({"--split": "validation"}, "has no split 'validation'"),
        ({"--out": "{store}"}, "exists already"),
    ],
)
def test_the_users_errors_end_with_two(
    store: Path, command: Command, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    options = {"dataset": NAME, "--format": "voc", "--out": str(tmp_path / "out"), "--store": str(store)} | changes
    dataset = options.pop("dataset")
    words = [word.format(store=store) for option in options.items() for word in option]
    code, printed, err = command("export", dataset, *words)
    assert (code, printed) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_it_needs_no_more_than_reading(store: Path, tmp_path: Path) -> None:
    heavy = ("torch", "prefect", "pycocotools", "scipy", "cv2")
    program = (
        "import sys\nfrom tailforge.flows.cli.commands import app\n"
        f"for name in ('coco', 'panoptic', 'yolo', 'voc'):\n"
        f"    app(['export', {NAME!r}, '--format', name, '--out', {str(tmp_path)!r} + '/' + name, "
        f"'--store', {str(store)!r}], standalone_mode=False)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
