"""`tailforge explain` on a tiny generator: the ledger, the errors, and a repair on its way through the next build."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.schemas.tables import EXPLANATION
from tests.flows.conftest import Command, build, rows_of, start_from_build

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

Explain = Callable[..., tuple[int, str, str]]
FAST = ("--order", "1", "--grid", "4")


@pytest.fixture
def made(command: Command, tiny_recipe: Path, tmp_path: Path) -> dict[str, Any]:
    """A version of the tiny recipe."""
    return start_from_build(command, tiny_recipe, tmp_path / "store")


@pytest.fixture
def explain(command: Command, made: dict[str, Any], tiny_recipe: Path, tmp_path: Path) -> Explain:
    """`tailforge explain SAMPLE ...` of that version."""
    words = ("--dataset", "tiny", "--store", tmp_path / "store", "--folder", tiny_recipe.parent)
    return lambda sample_id, *more: command("explain", sample_id, *words, *more)


def first_id(made: dict[str, Any]) -> str:
    return min(row["sample_id"] for row in rows_of(made))


def read(result: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = result
    assert code == 0, err
    return json.loads(out)  # type: ignore[no-any-return]


def test_a_sample_is_taken_apart_and_the_ledger_is_kept(explain: Explain, made: dict[str, Any]) -> None:
    found = read(explain(first_id(made), *FAST, "--json"))
    ledger = pq.read_table(found["ledger"])
    assert ledger.schema.names == EXPLANATION.names
    assert ledger.num_rows == found["components"] == len(found["players"])
    assert found["residual"] <= 1e-2
    with np.load(found["arrays"]) as arrays:
        published = next(row for row in rows_of(made) if row["sample_id"] == first_id(made))
        assert arrays["image"].shape == (published["height"], published["width"], 3)
        assert len(arrays["deleted"]) == len(arrays["changes"]) == sum(ledger["shown"].is_valid().to_pylist())
    assert "<canvas" in Path(found["page"]).read_text()
    written = Path(found["ledger"]).stat().st_mtime_ns
    assert read(explain(first_id(made), *FAST, "--json")) == found
    assert Path(found["ledger"]).stat().st_mtime_ns == written
    code, out, _ = explain(first_id(made), *FAST)
    assert code == 0
    assert "strongest components" in out


def test_a_step_of_the_denoiser_can_be_explained(explain: Explain, made: dict[str, Any]) -> None:
    found = read(explain(first_id(made), "--target", "step", "--order", "1", "--grid", "2", "--json"))
    assert found["layer"] == "up_blocks.1"


def test_a_mended_sample_stands_in_for_its_parent(
    explain: Explain, made: dict[str, Any], command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    store, parent = tmp_path / "store", first_id(made)
    found = read(explain(parent, *FAST, "--box", "4,4,20,20", "--repair", "--json"))
    told = found["repair"]
    assert {each["route"] for each in told["attempts"]} == {"primitives", "anchor", "inpaint"}
    assert told["after"] == min(each["score"] for each in told["attempts"] if each["accepted"])
    assert told["after"] <= 0.95 * told["before"]
    assert told["psnr_outside"] >= 40
    status = json.loads(command("status", tiny_recipe, "--store", store, "--json")[1])
    assert status["complete"] is False

    after = build(command, tiny_recipe, store)
    assert after["work"].get("samples", 0) == 0
    assert verify(Store.open(str(store)), "tiny") == []
    rows = {row["sample_id"]: row for row in rows_of(after)}
    before = {row["sample_id"]: row for row in rows_of(made)}
    assert set(before) - set(rows) == {parent}
    assert set(rows) - set(before) == {found["repaired_id"]}
    mended, original = rows[found["repaired_id"]], before[parent]
    assert (mended["split"], mended["caption"]) == (original["split"], original["caption"])
    origin = json.loads(mended["provenance"])["repair"]
    assert (origin["parent"], origin["route"], origin["region"]["source"]) == (parent, told["route"], "box 4,4,20,20")
    assert [(r["sample_id"], r["reason"]) for r in rows_of(after, "rejects") if r["sample_id"] == parent] == [
        (parent, "repaired")
    ]
    difference = json.loads(command("diff", "tiny@1.0.0", f"tiny@{after['version']}", "--store", store, "--json")[1])
    assert (difference["added"], difference["removed"], difference["changed"]) == (1, 1, 0)
    report = Path(after["report"]).parent
    assert (report / "explained" / f"{found['repaired_id']}.html").is_file()
    assert f"explained/{found['repaired_id']}.html" in (report / "index.html").read_text()
    assert build(command, tiny_recipe, store)["new"] is False

    again = ("--dataset", "tiny", "--store", store, "--folder", tiny_recipe.parent)
    out = tmp_path / "again.png"
    code, printed, err = command("regenerate", found["repaired_id"], *again, "--out", out, "--json")
    assert code == 0, err
    assert json.loads(printed)["equal"] is True
    code, _, err = explain(found["repaired_id"], *FAST)
    assert code == 2
    assert f"is a repair of {parent}" in err

    assert explain(parent, "--undo")[0] == 0
    assert {row["sample_id"] for row in rows_of(build(command, tiny_recipe, store))} == set(before)
    code, _, err = explain(parent, "--undo")
    assert code == 2
    assert "nothing to undo" in err


def test_a_repair_of_an_image_that_is_drawn_otherwise_now_is_passed_over(
    explain: Explain, made: dict[str, Any], command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    found = read(explain(first_id(made), *FAST, "--box", "4,4,20,20", "--repair", "--json"))
    changed = build(command, tiny_recipe, tmp_path / "store", "--set", "engine.steps=3")
    ids = {row["sample_id"] for row in rows_of(changed)}
    assert first_id(made) in ids
    assert changed["stale_repairs"] == [first_id(made)]
    assert found["repaired_id"] not in ids


def test_a_rejected_sample_brings_its_own_region(
    command: Command, tiny_recipe: Path, tmp_path: Path, made: dict[str, Any]
) -> None:
    store = tmp_path / "store"
    scores = sorted(row["sharpness"] for row in rows_of(made))
    strict = ("--set", f"quality.gates.sharpness.min={scores[3]}", "--set", "quality.max_rounds=1")
    refused = next(row for row in rows_of(build(command, tiny_recipe, store, *strict), "rejects")
                   if row["reason"] == "sharpness_low")  # fmt: skip
    words = ("--dataset", "tiny", "--store", store, "--folder", tiny_recipe.parent, "--json", *FAST)
    found = read(command("explain", refused["sample_id"], *words, "--repair"))
    assert found["region"] == "gate sharpness"
    assert found["repair"]["score"] == "sharpness"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--box", "4,4,20,90"), "is off the image or empty; the image has 32 x 32 pixels"),
        (("--box", "4,4"), "give left,top,right,bottom"),
        (("--layer", "decoder.up_blocks.7"), "unknown layer 'decoder.up_blocks.7'; possible are decoder.mid_block"),
        (("--gate", "beauty"), "unknown gate 'beauty'; the gates are brightness"),
        (("--gate", "sharpness"), "sets neither min nor max for gate 'sharpness'"),
        (("--repair",), "--repair needs a region"),
        (("--box", "1,1,9,9", "--mask", "concept"), "--box and --mask each name a region"),
        (("--mask", "nowhere.png"), "nowhere.png"),
        (("--order", "0"), "give a number from 1 to 36, or all"),
        (("--step", "1"), "--step needs --target step; add that"),
        (("--target", "step", "--step", "9"), "step 9 is not among the 2 steps"),
        (("--memory", "0.000001"), "are allowed"),
        (("--grid", "33"), "a grid of 33 x 33 patches does not fit"),
    ],
)
def test_what_cannot_be_explained_is_one_clear_error(
    words: tuple[str, ...], message: str, explain: Explain, made: dict[str, Any], tmp_path: Path
) -> None:
    before = sorted((tmp_path / "store").rglob("*"))
    code, out, err = explain(first_id(made), *words)
    assert code == 2
    assert message in err
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert sorted((tmp_path / "store").rglob("*")) == before


def test_a_sample_that_is_not_there(explain: Explain) -> None:
    code, _, err = explain("f" * 16)
    assert code == 2
    assert "has no sample 'ffffffffffffffff'" in err


def test_a_mask_file_names_the_region(explain: Explain, made: dict[str, Any], tmp_path: Path) -> None:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[8:16, 8:16] = 255
    Image.fromarray(pixels).save(tmp_path / "scratch.png")
    found = read(explain(first_id(made), *FAST, "--mask", str(tmp_path / "scratch.png"), "--json"))
    assert found["region"] == "mask scratch.png"
    assert found["first"][0]["region_rank"] == 1
    Image.fromarray(pixels[:16]).save(tmp_path / "small.png")
    code, _, err = explain(first_id(made), "--mask", str(tmp_path / "small.png"))
    assert code == 2
    assert "give a mask of the image's size" in err
