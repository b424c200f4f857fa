"""The chain with a teacher alone: weights in, labelled images out, published, continued and made again."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tailforge import open_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.schemas.settings.inversion import TeacherSource
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.models.teacher import Teacher, load_teacher
from tests.flows.conftest import Command, build, rows_of
from tests.support.inversion_recipes import MODULE, NAMES, SIDE, inversion_recipe, save_teacher
from tests.support.tiny_teachers import count_hooks, state_digest

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The recipe's folder with the teacher in it."""
    save_teacher(tmp_path / "recipe" / "teacher")
    return tmp_path / "recipe"


def images_of(made: dict[str, Any]) -> dict[str, np.ndarray[Any, np.dtype[np.uint8]]]:
    samples = open_dataset(str(Path(made["uri"]).parent), split="train", version=made["version"])
    return {sample["key"]: np.array(sample["image"]) for sample in samples}


def loaded(folder: Path) -> Teacher:
    from tailforge.flows.build.prepare import resolve_build

    context = resolve_build(inversion_file(folder), str(folder / "unused"))
    return load_teacher(context.generator, context.recipe.teacher, folder)


def inversion_file(folder: Path) -> Any:
    from tailforge.catalog.sources.recipes import load_recipe

    return load_recipe(str(inversion_recipe(folder)))


def test_a_teacher_alone_gives_a_labelled_version(command: Command, folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    made = build(command, inversion_recipe(folder), store)
    assert (made["samples"], made["shortfall"]) == (12, {})
    assert made["work"]["inversions"] == 2  # batches of eight hold two of each of four classes
    assert verify(Store.open(str(store)), "tiny") == []
    teacher, images = loaded(folder), images_of(made)
    scale = PixelScale(teacher.mean, teacher.std, torch.device("cpu"))
    for row in rows_of(made):
        origin = json.loads(row["provenance"])
        assert row["caption"] == f"a photo of a {row['concept']}"
        assert NAMES[origin["label"]] == row["concept"]
        assert row["class_id"] == ("gear", "hook", "plate", "ring").index(row["concept"])
        assert row["engine"] == origin["kind"] == "natural_inversion"
        assert (row["width"], row["height"], row["mask_source"]) == (SIDE, SIDE, "class_activation")
        assert set(origin["losses"]) == {"total", "cross_entropy", "statistics", "variation", "norm"}
        assert len(origin["channel_scales"]) == 3
        assert origin["stop_reason"] in ("settled", "steps")
        with torch.no_grad():
            logits = teacher.logits(scale.from_pixels(images[row["sample_id"]][None]))[0]
        assert origin["teacher_logits"] == pytest.approx(logits.tolist(), abs=1e-4)
        assert origin["agrees"] == (int(logits.argmax()) == origin["label"])
        assert row["teacher_agreement"] == pytest.approx(float(logits.softmax(0)[origin["label"]]), abs=1e-5)
    assert any(row["mask_area"] > 0 for row in rows_of(made))


def test_a_finished_build_is_not_done_again_and_more_images_are_an_addition(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    recipe, store = inversion_recipe(folder), tmp_path / "store"
    first = images_of(build(command, recipe, store))
    assert build(command, recipe, store)["work"] == {}
    more = build(command, recipe, store, "--set", "concepts.hook.requested=7")
    assert more["work"]["inversions"] == 2
    assert more["version"] == "1.1.0"
    later = images_of(more)
    assert all(np.array_equal(later[sample_id], pixels) for sample_id, pixels in first.items())
    even = build(command, recipe, store, "--set", "concepts.hook.requested=7", "--set", "concepts.ring.requested=7")
    assert "inversions" not in even["work"]  # the ring's further images were made beside the hook's


def test_changed_captions_invert_nothing_again(command: Command, folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    build(command, inversion_recipe(folder), store)
    work = build(command, inversion_recipe(folder, prompts={"templates": ["{a} {concept}"]}), store)["work"]
    assert "inversions" not in work
    assert work["samples"] == 8


def test_a_build_goes_on_at_the_run_that_is_missing(command: Command, folder: Path, tmp_path: Path) -> None:
    recipe, store = inversion_recipe(folder), tmp_path / "store"
    build(command, recipe, store)
    receipts = sorted((store / "artifacts" / "inversions").rglob("part-*.json"))
    before = {receipt: receipt.read_bytes() for receipt in receipts}
    content = receipts[1].with_suffix(".parquet").read_bytes()
    receipts[1].unlink()
    work = build(command, recipe, store)["work"]
    assert {stage: count for stage, count in work.items() if count} == {"inversions": 1}
    assert receipts[1].with_suffix(".parquet").read_bytes() == content
    assert receipts[0].read_bytes() == before[receipts[0]]


@pytest.mark.slow
def test_one_seed_gives_equal_bytes_and_another_seed_other_images(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    recipe = inversion_recipe(folder)
    one, two = (build(command, recipe, tmp_path / name) for name in ("one", "two"))
    shards = [sorted((Path(made["uri"]) / "shards").iterdir()) for made in (one, two)]
    assert [shard.read_bytes() for shard in shards[0]] == [shard.read_bytes() for shard in shards[1]]
    other = build(command, recipe, tmp_path / "three", "--set", "seed=2")
    known = {pixels.tobytes() for pixels in images_of(one).values()}
    assert not known & {pixels.tobytes() for pixels in images_of(other).values()}


def test_the_teacher_stays_as_its_files_say(command: Command, folder: Path, tmp_path: Path) -> None:
    build(command, inversion_recipe(folder), tmp_path / "store")
    module = loaded(folder).module  # the one that the build used: it is kept in the process
    fresh = type(module)((4, 6, 8), len(NAMES), 1)  # type: ignore[call-arg]
    fresh.load_state_dict(load_file(folder / "teacher" / "model.safetensors"))
    assert state_digest(module) == state_digest(fresh)
    assert count_hooks(module) == 0


@pytest.mark.parametrize(
    "engine",
    [
        {"form": "generator"},
        {"form": "pixels"},
        {"groups": 2, "batches_per_run": 3, "warm_start": True},
        {"preset": "cifar10", "batch_size": 8, "steps": 3, "latent_size": 8, "width": 8},
        {"batch_size": 4},
    ],
)
def test_other_settings_build_too(engine: dict[str, Any], command: Command, folder: Path, tmp_path: Path) -> None:
    made = build(command, inversion_recipe(folder, engine), tmp_path / "store")
    assert made["samples"] == 12
    assert {json.loads(row["provenance"])["form"] for row in rows_of(made)} == {engine.get("form", "pyramid")}


@pytest.mark.slow
def test_a_gate_on_the_teachers_agreement_leads_to_further_rounds(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    recipe = inversion_recipe(folder)
    scores = sorted(row["teacher_agreement"] for row in rows_of(build(command, recipe, tmp_path / "free")))
    bound = (scores[5] + scores[6]) / 2
    gates = {"teacher_agreement": {"min": bound}}
    quality = {"gates": gates, "near_duplicates": None, "oversample": 1.0, "max_rounds": 2, "round_limit": None}
    made = build(command, inversion_recipe(folder, quality=quality), tmp_path / "gated")
    assert made["rounds"] == 2
    assert all(row["teacher_agreement"] >= bound for row in rows_of(made))
    assert "teacher_agreement_low" in {row["reason"] for row in rows_of(made, "rejects")}


def test_an_independent_verifier_judges(command: Command, folder: Path, tmp_path: Path) -> None:
    save_teacher(folder / "verifier", NAMES[::-1], seed=5)
    quality = {
        "verifier": {"model": "verifier", "module": MODULE}, "gates": {"verifier_agreement": {"min_quantile": 0.4}},
        "near_duplicates": None, "oversample": 1.0, "max_rounds": 1,
    }  # fmt: skip
    made = build(command, inversion_recipe(folder, quality=quality), tmp_path / "store")
    rejected = rows_of(made, "rejects")
    assert "verifier_agreement_low" in {row["reason"] for row in rejected}
    assert all(0 <= row["verifier_agreement"] <= 1 for row in [*rows_of(made), *rejected])
    lineage = json.loads((Path(made["uri"]) / "dataset.json").read_text())["lineage"]
    assert len(lineage["models"]["verifier"]["digest"]) == 64


def test_one_image_is_made_again_bit_equal(command: Command, folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    made = build(command, inversion_recipe(folder, {"batches_per_run": 2, "groups": 2}), store)
    for path in (store / "artifacts" / "inversions").rglob("part-*"):
        path.unlink()
    for row in (rows_of(made)[0], rows_of(made)[-1]):
        code, out, err = command(
            "regenerate", row["sample_id"], "--dataset", "tiny", "--store", store, "--out", tmp_path / "again.png",
            "--folder", folder, "--teacher-module", MODULE, "--json",
        )  # fmt: skip
        assert code == 0, err
        assert json.loads(out)["equal"] is True


def test_a_version_is_used_from_its_recipes_folder_or_with_its_name(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version names no folder of a machine, and its recipe names the teacher by a relative path."""
    made = build(command, inversion_recipe(folder), tmp_path / "store")
    assert 0 <= made["teacher_agrees"] <= 1
    words = ("regenerate", rows_of(made)[0]["sample_id"], "--dataset", "tiny", "--store", tmp_path / "store", "--json",
             "--out", tmp_path / "again.png", "--teacher-module", MODULE)  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, _, error = command(*words)
    assert (code, "name that by --folder" in error) == (2, True)
    learn = ("distill", "tiny", "--store", tmp_path / "store", "--test", "tiny", "--out", tmp_path / "student",
             "--teacher-module", MODULE)  # fmt: skip
    code, _, error = command(*learn)
    assert (code, "name the recipe's folder by --folder" in error) == (2, True)
    monkeypatch.chdir(folder)
    code, out, error = command(*words)
    assert code == 0, error
    assert json.loads(out)["equal"] is True


def test_changed_code_of_the_teacher_is_another_teacher(command: Command, folder: Path, tmp_path: Path) -> None:
    code = "from tests.support.tiny_teachers import CifarResNet\n"
    (folder / "net.py").write_text(code)
    recipe = inversion_recipe(folder, generator={"model": "teacher", "module": "net:CifarResNet"})
    made = build(command, recipe, tmp_path / "store")
    (folder / "net.py").write_text(code + "# changed\n")
    assert build(command, recipe, tmp_path / "store")["work"]["inversions"] == 2
    code_, _, err = command(
        "regenerate", rows_of(made)[0]["sample_id"], "--dataset", "tiny@1.0.0", "--store", tmp_path / "store",
        "--out", tmp_path / "again.png", "--folder", folder, "--teacher-module", "net:CifarResNet",
    )  # fmt: skip
    assert code_ == 2
    assert "put the old model back" in err


def test_one_image_is_made_again_without_judges_and_references(command: Command, folder: Path, tmp_path: Path) -> None:
    save_teacher(folder / "verifier", NAMES[::-1], seed=5)
    (folder / "photos").mkdir()
    Image.new("RGB", (SIDE, SIDE)).save(folder / "photos" / "a.png")
    quality = {"verifier": {"model": "verifier", "module": MODULE}, "oversample": 1.0, "max_rounds": 1}
    concepts = [{"name": "gear", "requested": 2, "references": "photos"}, {"name": "hook", "requested": 2}]
    made = build(command, inversion_recipe(folder, quality=quality, concepts=concepts), tmp_path / "store")
    shutil.rmtree(folder / "verifier")
    shutil.rmtree(folder / "photos")
    code, out, err = command(
        "regenerate", rows_of(made)[0]["sample_id"], "--dataset", "tiny", "--store", tmp_path / "store", "--out",
        tmp_path / "again.png", "--folder", folder, "--teacher-module", MODULE, "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["equal"] is True


def test_the_student_of_a_teacher_whose_code_has_changed_is_refused(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "path" / "net_on_the_path.py"
    code.parent.mkdir()
    code.write_text("from tests.support.tiny_teachers import CifarResNet\n")
    monkeypatch.syspath_prepend(str(code.parent))
    source = {"model": str(folder / "teacher"), "module": "net_on_the_path:CifarResNet"}
    build(command, inversion_recipe(folder, generator=source), tmp_path / "store")
    code.write_text(code.read_text() + "# changed\n")
    words = ("distill", "tiny", "--store", tmp_path / "store", "--test", "tiny", "--out", tmp_path / "student",
             "--teacher-module", source["module"])  # fmt: skip
    status, _, err = command(*words)
    assert status == 2
    assert "changed since the version was made: its files or its code have digest" in err


def test_report_and_card_show_the_inversion(command: Command, folder: Path, tmp_path: Path) -> None:
    made = build(command, inversion_recipe(folder), tmp_path / "store")
    page = Path(made["report"]).read_text()
    assert '<section id="inversion"' in page
    assert "Losses of its batch" in page
    card = (Path(made["uri"]) / "README.md").read_text()
    found = re.search(r"agrees with the label of ([\d.]+) % of the accepted images", card)
    assert found is not None
    agreed = np.mean([json.loads(row["provenance"])["agrees"] for row in rows_of(made)])
    assert float(found[1]) == pytest.approx(100 * agreed, abs=0.06)


def test_the_plan_names_what_is_to_be_inverted(command: Command, folder: Path, tmp_path: Path) -> None:
    recipe, store = inversion_recipe(folder), tmp_path / "store"
    build(command, recipe, store)
    code, out, err = command("plan", recipe, "--store", store, "--json", "--set", "concepts.hook.requested=9")
    assert code == 0, err
    stages = {stage["stage"]: stage for stage in json.loads(out)["stages"]}
    assert (stages["inversions"]["finished"], stages["inversions"]["missing"]) == (2, 3)
    assert stages["inversions"]["missing_rows"] == 3 * 8  # all four classes are asked for, so a batch has no filler
    code, out, err = command(
        "plan", inversion_recipe(folder, concepts=[{"name": "hook", "requested": 3}]), "--store", store, "--json"
    )
    assert code == 0, err
    (inversions,) = (stage for stage in json.loads(out)["stages"] if stage["stage"] == "inversions")
    assert inversions["missing_rows"] == 4 * inversions["missing"]  # half of a batch is filler


def test_classes_without_names_are_asked_for_by_number(command: Command, folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "teacher" / "config.json").read_text())
    del config["id2label"]
    (folder / "teacher" / "config.json").write_text(json.dumps(config))
    concepts = [{"name": "2", "requested": 2}, {"name": "0", "requested": 2}]
    made = build(command, inversion_recipe(folder, concepts=concepts), tmp_path / "store")
    assert {(row["concept"], json.loads(row["provenance"])["label"]) for row in rows_of(made)} == {("2", 2), ("0", 0)}


def test_the_source_of_a_teacher_may_say_how_its_images_are_prepared(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    source = TeacherSource(model="teacher", module=MODULE, size=(8, 8), class_names=("a", "b", "c", "d"))
    recipe = inversion_recipe(
        folder, generator=source.model_dump(mode="json", exclude_none=True), concepts=[{"name": "b", "requested": 2}]
    )
    assert [row["width"] for row in rows_of(build(command, recipe, tmp_path / "store"))] == [8, 8]


def test_a_named_text_to_image_model_says_where_the_concepts_are(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    asked = {"kind": "renoised_attention", "model": {"model": "catalog:workshop"}}
    made = build(command, inversion_recipe(folder, annotation=asked), tmp_path / "store")
    assert {row["mask_source"] for row in rows_of(made)} == {"renoised_attention"}
    dataset = json.loads((Path(made["uri"]) / "dataset.json").read_text())
    assert set(dataset["lineage"]["models"]) == {"generator", "annotator"}
    plain = build(command, inversion_recipe(folder), tmp_path / "store")
    assert "inversions" not in plain["work"]  # the images are the same ones
    assert plain["work"]["masks"] == 8
