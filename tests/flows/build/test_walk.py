"""What `plan` counts of a build before it: images, partitions by stage; nothing is run."""

from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.store import Store
from tailforge.flows.build.drive import Drive, Step
from tailforge.flows.build.order import expand_all
from tailforge.flows.build.plan_partitions import plan_partitions
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build.rounds import first_sizes, run_rounds
from tailforge.flows.build.walk import Plan, plan_build
from tailforge.flows.samples.remake import open_local, run_here
from tailforge.schemas.jobs import BuildContext
from tests.support.inversion_recipes import inversion_recipe, save_teacher


def stages(plan: Plan) -> dict[str, tuple[int, int, int]]:
    return {stage.stage: (stage.finished, stage.missing, stage.missing_rows) for stage in plan.stages}


def test_a_new_recipe_is_counted_as_it_will_be_built(tiny_recipe: Path, tmp_path: Path) -> None:
    context = prepare_build(str(tiny_recipe), str(tmp_path / "store"))
    fresh = plan_build(context)
    assert (fresh.concepts, fresh.wanted, fresh.images, fresh.finished_images, fresh.complete) == (2, 15, 24, 0, False)
    partitions = {"samples": 6, "masks": 6, "verdicts": 6}
    assert stages(fresh) == {
        "prompts": (0, 2, 0), **{name: (0, count, 24) for name, count in partitions.items()}, "selection": (0, 1, 24),
    }  # fmt: skip
    assert Store.open(context.store).names("artifacts") == []
    drive = open_local(Store.open(context.store))
    prompts = expand_all(drive, context)
    assert prompts is not None
    assert len(list(plan_partitions(context, prompts, 0, first_sizes(context.recipe)))) == 6
    assert stages(plan_build(context)) == stages(fresh) | {"prompts": (2, 0, 0)}


def test_an_inversion_counts_its_runs(tmp_path: Path) -> None:
    folder = tmp_path / "recipe"
    save_teacher(folder / "teacher")
    plan = plan_build(prepare_build(str(inversion_recipe(folder)), str(tmp_path / "store")))
    assert stages(plan)["inversions"] == (0, 2, 16)
    assert stages(plan)["samples"] == (0, 8, 16)


def test_a_search_counts_what_comes_before_its_images(searching_context: BuildContext) -> None:
    found = stages(plan_build(searching_context))
    assert found["aims"] == (0, 2, 2 * 8 + 3 + 4)
    assert found["seeds"] == (0, 4, 6)
    assert found["samples"] == (0, 3, 6)


def test_prompts_that_a_language_model_is_to_write_leave_the_partitions_open(
    searching_context: BuildContext,
) -> None:
    recipe = searching_context.recipe
    expander: Any = {"source": {"model": "writer"}, "count": 2}
    prompts = type(recipe.prompts).model_validate(recipe.prompts.model_dump() | {"language_model": expander})
    context = searching_context.model_copy(update={"recipe": recipe.model_copy(update={"prompts": prompts})})
    plan = plan_build(context)
    assert stages(plan) == {"prompts": (0, 2, 0)}
    assert (plan.wanted, plan.images) == (5, 5)


@pytest.fixture
def searching_context(tiny_recipe: Path, tmp_path: Path) -> BuildContext:
    from tests.flows.build.test_search_engines import SEARCH, photograph
    from tests.support.tiny_clip import save_clip
    from tests.support.tiny_recipes import write_recipe

    folder = tiny_recipe.parent
    save_clip(folder / "clip")
    photograph(folder / "gears", 3, 1)
    photograph(folder / "benches", 4, 2)
    path = write_recipe(
        folder,
        engine=SEARCH | {"mode": "bootstrapped", "found_seeds": 3},
        partition_size=None,
        concepts=[
            {"name": "gear", "requested": 3, "references": "gears"},
            {"name": "bench", "requested": 2, "references": "benches"},
        ],
        quality={"gates": {}, "near_duplicates": None},
        prompts={"templates": ["a photo of a {concept}"]},
    )
    return prepare_build(str(path), str(tmp_path / "store"))


def test_a_step_that_was_made_is_not_counted_as_missing(tiny_recipe: Path, tmp_path: Path) -> None:
    context = prepare_build(str(tiny_recipe), str(tmp_path / "store"))
    store, done = Store.open(context.store), list[Step]()

    def submit(step: Step) -> Any:
        if len(done) == 5:  # two of prompts, then a partition's samples, masks and verdicts
            raise RuntimeError("enough")
        done.append(step)
        return run_here(store, step)

    with pytest.raises(RuntimeError, match="enough"):
        run_rounds(Drive(store, submit, window=1), context)
    plan = plan_build(context)
    assert stages(plan)["samples"] == (1, 5, 20)
    assert stages(plan)["verdicts"] == (1, 5, 20)
    assert plan.finished_images == 4
