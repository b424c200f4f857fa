"""Builds that spend their images by gain: equal bytes after a stop, versions, decisions of persons, and bad input."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tailforge.flows.build.compare_allocations import compare_allocations
from tailforge.flows.build.drive import Drive, Step
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build.walk import BuildResult, plan_build, walk
from tailforge.flows.samples.remake import Done, run_here
from tailforge.schemas.errors import ImagesError, RecipeError, StoreError, UserError
from tailforge.schemas.jobs import BuildContext
from tailforge.tasks.stages.allocation import STAGE as ALLOCATION
from tailforge.tasks.stages.judges import STAGE as JUDGES
from tailforge.tasks.stages.preferences import STAGE as PREFERENCES
from tests.flows.conftest import Command, build
from tests.support.steered_recipes import COUNTS, render_part, steered_recipe, write_renders


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe and its real images."""
    folder = tmp_path_factory.mktemp("steered")
    write_renders(folder / "real")
    steered_recipe(folder)
    return folder


def run(context: BuildContext, most: int = 10**6) -> BuildResult | None:
    """Walk through the build in this process. Errors: StoreError at the step after `most`."""
    store, steps = Store.open(context.store), []

    def submit(step: Step) -> Done:
        steps.append(step)
        if len(steps) > most:
            raise StoreError("the power is gone")
        return run_here(store, step)

    return walk(Drive(store, submit), context)


def tables(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("artifacts/**/*.parquet"))}


@pytest.fixture(scope="module")
def made(place: Path) -> BuildResult:
    """The build that nothing stops."""
    found = run(prepare_build(str(place / "steered.yaml"), str(place / "store")))
    assert found is not None
    return found


def test_the_recipe_of_the_result_requests_what_was_kept(made: BuildResult, place: Path) -> None:
    kept = {concept.name: concept.wanted for concept in made.selected.context.recipe.concepts}
    assert made.selected.accepted == kept
    assert sum(sum(sizes.values()) for sizes in made.selected.rounds) == 24
    assert made.selected.rounds[0] == {"gear": 4, "washer": 4}
    assert all(sum(sizes.values()) == 8 for sizes in made.selected.rounds)
    assert sum(kept.values()) == 12  # keep: 0.5
    assert sum(shard.rows for shard in made.shards) == 12
    samples = [sample for job in made.selected.jobs for sample in job.job.samples]
    assert len({sample.sample_id for sample in samples}) == 24
    assert len({sample.prompt for sample in samples}) > 6  # rounds take prompts in turn


def test_a_finished_build_is_planned_as_complete(made: BuildResult, place: Path) -> None:
    plan = plan_build(prepare_build(str(place / "steered.yaml"), str(place / "store")))
    assert plan.complete
    found = {stage.stage: stage.finished for stage in plan.stages}
    assert (found["judges"], found["allocation"], found["preferences"]) == (1 + 4, 4, 3)
    assert all(stage.missing == 0 for stage in plan.stages)


def test_a_stopped_build_goes_on_and_ends_in_equal_bytes(made: BuildResult, place: Path, tmp_path: Path) -> None:
    context = prepare_build(str(place / "steered.yaml"), str(tmp_path / "store"))
    with pytest.raises(StoreError, match="power"):
        run(context, most=7)
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("part-*.json")}
    assert run(context) is not None
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert tables(tmp_path / "store") == tables(place / "store")


def test_another_setting_keeps_the_work_that_it_does_not_decide(place: Path, made: BuildResult) -> None:
    other = plan_build(prepare_build(str(place / "steered.yaml"), str(place / "store"), ["allocation.keep=1.0"]))
    found = {stage.stage: (stage.finished, stage.missing) for stage in other.stages}
    assert (found["judges"], found["samples"], found["preferences"]) == ((2, 0), (2, 0), (0, 1))


@pytest.mark.flow
@pytest.mark.usefixtures("prefect_server")
def test_a_version_says_where_images_were_spent(place: Path, made: BuildResult, command: Command) -> None:
    published = build(command, place / "steered.yaml", place / "store")
    dataset = load_dataset(Store.open(str(place / "store")), "steered", "latest")
    kept = {concept.name: concept.wanted for concept in made.selected.context.recipe.concepts}
    assert dataset.counts.by_concept == kept
    assert {each["name"]: each["wanted"] for each in dataset.recipe["concepts"]} == kept
    assert published["shortfall"] == {}
    assert set(published["work"].values()) <= {0}

    # The report, the summary and the rejects.
    folder = Path(published["report"]).parent
    page = (folder / "index.html").read_text()
    assert "Where images were spent" in page
    assert "the budget does not reach for another batch" in page
    told = json.loads((folder / "summary.json").read_text())["allocation"]
    assert [(row["concept"], row["drawn"]) for row in told["rows"]] == [("gear", 12), ("washer", 12)]
    assert all(0 <= row["before"]["low"] <= row["before"]["value"] <= row["before"]["high"] for row in told["rows"])
    assert [sum(row["images"].values()) for row in told["rounds"]] == [8, 8, 8]
    rejects = pq.read_table(folder.parent / "rejects.parquet")
    assert set(rejects["reason"].to_pylist()) == {"surplus"}

    # Nothing is left to do, and a sample can be drawn again.
    assert build(command, place / "steered.yaml", place / "store")["new"] is False
    sample = pq.read_table(folder.parent / "manifest.parquet")["sample_id"][-1].as_py()
    code, _, err = command("regenerate", sample, "--dataset", "steered", "--store", place / "store",
                           "--folder", place, "--out", place / "again.png")  # fmt: skip
    assert code == 0, err
    assert (place / "again.png").is_file()

    # Another setting of steering runs all its stages as tasks of the flow.
    again = build(command, place / "steered.yaml", place / "store", "--set", "allocation.keep=1.0")
    assert again["samples"] == 24
    assert all(again["work"][stage.name] == 3 for stage in (JUDGES, PREFERENCES, ALLOCATION))


@pytest.mark.flow
@pytest.mark.usefixtures("prefect_server")
def test_a_uniform_build_of_as_many_images_is_there_to_compare(place: Path, made: BuildResult) -> None:
    found = compare_allocations(str(place / "steered.yaml"), str(place / "store"))
    assert (found["uniform"]["name"], found["steered"]["name"]) == ("steered-even", "steered")
    assert found["steered"]["drawn_images"] == 24
    assert found["uniform"]["drawn_images"] == 32  # two templates of each concept fill two batches of four
    assert all(each["generation_seconds"] > 0 for each in found.values())
    with pytest.raises(RecipeError, match="the allocation is uniform"):
        compare_allocations(str(place / "steered.yaml"), str(place / "store"), ["allocation={by: uniform}"])


@contextmanager
def refused(folder: Path, error: type[UserError], words: str, **allocation: Any) -> Iterator[None]:
    yield
    with pytest.raises(error, match=words):
        prepare_build(str(steered_recipe(folder, allocation)), str(folder / "store"))


def test_real_images_that_do_not_fit_are_refused_before_any_work(tmp_path: Path) -> None:
    counts = {split: dict(own) for split, own in COUNTS.items()}
    with refused(tmp_path, UserError, "allocation.real.folder: .*/real does not exist"):
        pass
    with refused(tmp_path, RecipeError, "'washer' is no class of the real images, which are: bolt, gear"):
        write_renders(tmp_path / "real", {split: {"gear": 2, "bolt": 2} for split in counts})
    with refused(tmp_path, ImagesError, r"validation.* has no image of the class washer", real={"folder": "gap"}):
        write_renders(tmp_path / "gap", counts | {"validation": {"gear": 2, "bolt": 2}})
    with refused(tmp_path, ImagesError, "has no split validation", real={"folder": "half"}):
        write_renders(tmp_path / "half", {"train": counts["train"], "test": counts["validation"]})
    with refused(tmp_path, ImagesError, "8 x 8 pixels.*by allocation.real.height", real={"folder": "small"}):
        write_renders(tmp_path / "small", counts, side=8)
    with refused(tmp_path, RecipeError, "4 images cannot give each of 2 concepts a batch of 4; give 8", budget=4):
        pass
    with refused(tmp_path, RecipeError, "give images or seconds, not both", budget={"images": 9, "seconds": 9}):
        pass
    with refused(tmp_path, RecipeError, "'hook' is no concept", real={"folder": "real", "classes": {"hook": "gear"}}):
        pass
    assert not (tmp_path / "store").exists()


def test_a_split_test_is_never_read_and_learnt_validation_images_are_dropped(tmp_path: Path) -> None:
    real = write_renders(tmp_path / "real")
    copied = render_part("gear", 0).resize((32, 32), Image.Resampling.LANCZOS)
    copied.save(real / "validation" / "gear" / "copy.png")
    (real / "test" / "gear").mkdir(parents=True)
    (real / "test" / "gear" / "broken.png").write_bytes(b"no picture")
    context = prepare_build(str(steered_recipe(tmp_path)), str(tmp_path / "store"))
    with pytest.raises(StoreError):
        run(context, most=4)
    (receipt,) = [
        json.loads(path.read_text())
        for path in (tmp_path / "store" / "artifacts" / "judges").rglob("part-*.json")
        if json.loads(path.read_text())["label"] == "verifier"
    ]
    assert receipt["details"]["dropped"] == ["gear/copy.png: copy of the training image gear/0000.png"]
    assert receipt["details"]["validation"] == [6, 6, 6]
