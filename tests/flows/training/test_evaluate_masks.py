"""`tailforge evaluate --task segmentation`: gains in overlap, masks of versions, equal bytes and bad input."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailforge.catalog.store import Store
from tailforge.flows.training.evaluate_version import evaluate_version
from tailforge.flows.training.evaluation_inputs import Request, parse_settings, read_inputs
from tests.flows.conftest import Command
from tests.support.fabricate import encode_png
from tests.support.tiny_library import save_segformer
from tests.support.tiny_masks import FEW_STEPS, NAMES, draw_scene, publish_dots, write_real


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `store`, which holds version dots, and the images `real.parquet`."""
    folder = tmp_path_factory.mktemp("masks")
    publish_dots(Store.open(str(folder / "store"), create=True))
    write_real(folder / "real.parquet")
    return folder


def ask(place: Path, real: Path | None = None, reference: str = "dots", **changes: Any) -> Request:
    settings = parse_settings(FEW_STEPS | changes.pop("settings", {}))
    given = {"mask_classes": NAMES} | changes
    return Request(reference, str(place / "store"), str(real or place / "real.parquet"), settings, **given)


@pytest.fixture(scope="module")
def made(place: Path) -> dict[str, Any]:
    return evaluate_version(ask(place), 2)


def test_a_version_with_masks_of_the_missing_class_gains(place: Path, made: dict[str, Any], command: Command) -> None:
    arms = {each["arm"]: each for each in made["arms"]}
    assert [each["class"] for each in arms["real"]["scores"]] == ["background", *NAMES]
    assert arms["real"]["scores"][3]["value"] == 0
    assert arms["mixed"]["scores"][3]["value"] > 0.3
    assert "IoU of rare classes +" in made["verdict"]
    assert (made["task"], made["score"], made["unit"]) == ("segmentation", "IoU", "pixel")
    assert sum(map(sum, arms["mixed"]["confusion"])) == 2 * 6 * 32 * 32
    assert [each["train"] for each in made["classes"]] == [16, 8, 8, 0]
    _, out, _ = command("show", "dots", "--store", place / "store", "--json")
    assert json.loads(out)["evaluated"] == made["verdict"]


def test_the_page_and_the_table_speak_of_overlap(made: dict[str, Any]) -> None:
    page = Path(made["files"]["page"]).read_text()
    assert "IoU per class" in page
    assert "counted in pixels" in page
    assert "recall" not in page.lower()
    rows = pq.read_table(made["files"]["runs"]).to_pylist()
    tested = [row for row in rows if row["chosen"]]
    assert all(len(row["scores"]) == 4 and 0 <= row["calibration_error"] <= 1 for row in tested)


def test_overlap_is_that_of_all_pixels_together(made: dict[str, Any]) -> None:
    """One seed's figure, computed again from the confusions of one run: both seeds have the same images."""
    arm = next(each for each in made["arms"] if each["arm"] == "alone")
    runs = [row for row in pq.read_table(made["files"]["runs"]).to_pylist() if row["chosen"] and row["arm"] == "alone"]
    for place, each in enumerate(arm["scores"]):
        assert each["value"] == pytest.approx(np.mean([run["scores"][place] for run in runs]), abs=1e-5)


@pytest.mark.slow
def test_equal_evaluations_have_equal_bytes(place: Path, made: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(place / "store" / "datasets", tmp_path / "store" / "datasets")
    again = evaluate_version(ask(tmp_path, place / "real.parquet"), 1)
    for name in ("record", "runs"):
        assert Path(again["files"][name]).read_bytes() == Path(made["files"][name]).read_bytes()


def test_masks_of_a_version_are_matched_by_name(place: Path) -> None:
    found = read_inputs(ask(place))
    masks = found.synthetic["dots@1.0.0"].examples.targets
    expected = np.zeros((32, 32), np.uint8)
    expected[2:6, 3:9] = 3
    assert (masks == expected).all()
    ignored = read_inputs(ask(place, settings={"unmasked": "ignored"})).synthetic["dots@1.0.0"].examples
    assert set(np.unique(ignored.targets).tolist()) == {3, 255}
    renamed = read_inputs(ask(place, mask_classes=("bar", "stripe", "spot"), renamed={"dot": "spot"}))
    assert renamed.synthetic["dots@1.0.0"].examples.counts[3] > 0
    numbered = read_inputs(ask(place, mask_classes=(), renamed={"dot": "3"}))
    assert numbered.classes.names == ("background", "1", "2", "3")


def test_the_names_of_values_may_be_in_the_file(place: Path, tmp_path: Path) -> None:
    table = pq.read_table(place / "real.parquet")
    named = table.replace_schema_metadata({"mask_classes": json.dumps(NAMES)})
    pq.write_table(named, tmp_path / "named.parquet")
    assert read_inputs(ask(place, tmp_path / "named.parquet", mask_classes=())).classes.names[1:] == NAMES


def test_a_segmenter_of_transformers_is_trained(place: Path, tmp_path: Path) -> None:
    folder = save_segformer(tmp_path / "segformer")
    few = {"model": str(folder), "steps": 2, "checks": 1, "batch": 2, "learning_rate": None}
    tuned = evaluate_version(ask(place, fit="stretch", settings=few), 2)
    assert tuned["settings"]["model"] == "segformer"
    assert (tuned["images"]["height"], tuned["images"]["channels"]) == (16, 3)
    assert all(sum(map(sum, each["confusion"])) == 2 * 6 * 16 * 16 for each in tuned["arms"])


def change(place: Path, file: Path, **columns: list[Any]) -> Path:
    table = pq.read_table(place)
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.binary()))
    pq.write_table(table, file)
    return file


def without_a_mask(file: Path, out: Path) -> Path:
    masks = pq.read_table(file)["mask"].to_pylist()
    return change(file, out, mask=[None, *masks[1:]])


def with_a_small_mask(file: Path, out: Path) -> Path:
    masks = pq.read_table(file)["mask"].to_pylist()
    return change(file, out, mask=[encode_png(np.zeros((8, 8), np.uint8)), *masks[1:]])


def without_dots_in_test(file: Path, out: Path) -> Path:
    masks = pq.read_table(file)["mask"].to_pylist()
    return change(file, out, mask=[*masks[:-6], *[encode_png(draw_scene(200 + n, False)[1]) for n in range(6)]])


def unchanged(file: Path, out: Path) -> Path:
    return file


MISTAKES: dict[str, tuple[Callable[[Path, Path], Path], dict[str, Any], str]] = {
    "no mask": (
        without_a_mask,
        {},
        r"row 0 has no mask, which segmentation needs; give folders images and masks",
    ),
    "a small mask": (with_a_small_mask, {}, r"mask of .*row 0 is 8 x 8 pixels \(width x height\), its image 32 x 32"),
    "few names": (unchanged, {"mask_classes": ("bar", "stripe")}, r"holds the value 3, which has no name; the classes"),
    "background twice": (unchanged, {"mask_classes": ("Background", "b", "c")}, "named background, as value 0 is"),
    "no test image": (without_dots_in_test, {}, r"\(test\) has no image of the class dot"),
    "another name": (unchanged, {"mask_classes": ("bar", "stripe", "spot")}, "shows 'dot', which is no class of"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_masks_that_cannot_be_used_are_refused(place: Path, tmp_path: Path, mistake: str) -> None:
    spoil, changes, told = MISTAKES[mistake]
    real = spoil(place / "real.parquet", tmp_path / "changed.parquet")
    with pytest.raises(Exception, match=told):
        read_inputs(ask(place, real, **changes))
