"""An engine is one file and one line of registration; the recipe, the build and the plan know it by that."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest

from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build.rerun import rerun_build
from tailforge.flows.build.status import build_status
from tailforge.flows.build.walk import plan_build
from tailforge.flows.estimate.place_stages import place_stages
from tailforge.schemas.errors import NotFoundError, RecipeError
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.schemas.settings import engines
from tailforge.tasks.engines import registry
from tailforge.tasks.engines.registry import engine_of, register
from tailforge.tasks.stages import registry as stages
from tailforge.tasks.stages.samples import STAGE as SAMPLES
from tests.support import toy_stage
from tests.support.local_builds import build_here
from tests.support.tiny_generators import save_sd
from tests.support.tiny_recipes import TINY, write_recipe
from tests.support.toy_engine import Toy, ToySettings


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget afterwards what a test registers."""
    monkeypatch.setattr(registry, "_engines", dict(registry._engines))
    monkeypatch.setattr(engines, "_settings", dict(engines._settings))
    monkeypatch.setattr(stages, "_stages", list(stages._stages))


def toy(**settings: Any) -> dict[str, Any]:
    return TINY | {"engine": {"kind": "toy", **settings}}


def test_every_engine_that_a_recipe_can_name_is_registered() -> None:
    kinds = {settings.model_fields["kind"].default for settings in get_args(get_args(engines.Engine)[0])}
    assert kinds == set(registry._engines) == set(engines._settings)


@pytest.mark.usefixtures("registries")
def test_an_engine_is_added_by_one_file_and_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"engine\.kind"):
        parse_recipe(toy(), "test")

    register(ToySettings, Toy)

    save_sd(tmp_path / "recipe" / "generator")
    recipe = write_recipe(tmp_path / "recipe", engine={"kind": "toy", "contrast": 0.25})
    context = prepare_build(str(recipe), str(tmp_path / "store"))
    assert isinstance(engine_of(context.recipe), Toy)
    assert BuildContext.model_validate_json(context.model_dump_json()) == context
    plan = plan_build(context)
    assert (plan.complete, plan.images) == (False, 20)
    folder = build_here(context)
    rows = pq.read_table(folder / "manifest.parquet").to_pylist()
    assert len(rows) == 15
    assert {row["engine"] for row in rows} == {"toy"}
    assert plan_build(context).complete


@pytest.mark.usefixtures("registries")
def test_a_stage_is_added_by_one_file_and_one_line(tmp_path: Path) -> None:
    register(ToySettings, Toy)

    stages.register(toy_stage.STAGE, before=SAMPLES)

    save_sd(tmp_path / "recipe" / "generator")
    recipe = str(write_recipe(tmp_path / "recipe", engine={"kind": "toy", "coloured": True}))
    store = str(tmp_path / "store")
    context = prepare_build(recipe, store)
    assert [(each.stage, each.missing) for each in plan_build(context).stages][:3] == [
        ("prompts", 2), ("colours", 2), ("samples", 6)
    ]  # fmt: skip
    folder = build_here(context)
    for row in pq.read_table(folder / "manifest.parquet").to_pylist():
        assert row["engine"] == "toy"
    for sample in open_dataset(folder.as_posix()):
        assert (np.asarray(sample["image"])[..., 0] == 10 * len(sample["json"]["concept"])).all()

    # All that a user asks of a stage knows it.
    found = build_status(context)
    assert {"stage": "colours", "finished": 2, "to_do": 0, "rows": 2} in found["stages"]
    assert place_stages(context)["colours"].label == "colour of gear"
    report = (folder / "report" / "index.html").read_text()
    assert "colours" in report
    with pytest.raises(
        NotFoundError, match="adaptations, prompts, aims, seeds, inversions, judges, allocation, colours, samples"
    ):
        rerun_build(recipe, store, (), "colors", (), failed=False)


@pytest.mark.usefixtures("registries")
def test_an_added_engine_is_read_stored_and_refused_as_the_others() -> None:
    register(ToySettings, Toy)
    recipe = parse_recipe(toy(contrast=0.25) | {"partition_size": 2}, "test")
    assert recipe.model_dump(mode="json")["engine"] == {
        "kind": "toy", "batch_size": 2, "contrast": 0.25, "coloured": False
    }  # fmt: skip
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    with pytest.raises(RecipeError, match=r"engine\.contrast: must be 1 or less; found 2"):
        parse_recipe(toy(contrast=2), "test")
    with pytest.raises(RecipeError, match=r"partition_size 3 is no multiple of engine.batch_size 2, try 4"):
        parse_recipe(toy() | {"partition_size": 3}, "test")
