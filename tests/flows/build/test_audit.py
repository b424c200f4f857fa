"""`tailforge audit`: plain images of every concept, counted by what they show."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tailforge.catalog.store import Store
from tailforge.flows.build.audit import Audit, audit_recipe
from tailforge.schemas.errors import RecipeError
from tailforge.tasks.methods.intervals import wilson_interval
from tests.flows.build.test_search_engines import photograph
from tests.flows.conftest import Command
from tests.support.tiny_clip import save_clip
from tests.support.tiny_recipes import write_recipe

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

GEAR = [{"name": "gear", "requested": 9}]
TEACHER = "catalog:workshop-teacher"


def values_of(store: Path, audit: Audit) -> dict[str, list[float]]:
    """The scores of an audit's published images by concept."""
    name, _, version = audit.version.partition("@")
    rows = pq.read_table(store / "datasets" / name / version / "manifest.parquet").to_pylist()
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["concept"], []).append(row[audit.score])
    return found


def test_a_clip_model_counts_images_nearest_to_their_own_concept(tiny_recipe: Path, tmp_path: Path) -> None:
    save_clip(tiny_recipe.parent / "clip")
    quality = {"scorer": {"model": "clip"}, "gates": {"sharpness": {"min": 30_000}}, "on_shortfall": "fail"}
    engine = {"kind": "best_of_n", "steps": 2, "guidance": 1.5, "batch_size": 2, "scheduler": "ddim"}
    concepts = [{"name": name, "requested": 9, "references": "gears"} for name in ("gear", "bench")]
    recipe = write_recipe(
        tiny_recipe.parent, quality=quality, engine=engine, concepts=concepts, partition_size=None,
        sharding={"noise": True},
    )  # fmt: skip
    photograph(tiny_recipe.parent / "gears", 3)
    audit = audit_recipe(str(recipe), str(tmp_path / "store"), 5)

    # Every image is published, whatever the recipe's own gates say.
    assert (audit.version, audit.score) == ("tiny-audit@1.0.0", "concept_margin")
    values = values_of(tmp_path / "store", audit)
    for each in audit.concepts:
        right = sum(value >= 0 for value in values[each.concept])
        assert (each.drawn, each.right, each.share) == (5, right, right / 5)
        assert (each.low, each.high) == wilson_interval(right, 5)
        assert each.seconds > 0
        assert (each.per_right is None) == (right == 0)
    assert set(audit.engines) == {"best_of_n", "seed_select"}
    assert all(seconds > max(each.seconds for each in audit.concepts) for seconds in audit.engines.values())
    assert Path(audit.report).exists()


def test_a_classifier_counts_and_the_same_audit_draws_nothing_anew(
    tiny_recipe: Path, tmp_path: Path, command: Command
) -> None:
    store, recipe = tmp_path / "store", write_recipe(tiny_recipe.parent, concepts=GEAR)
    words = ("audit", recipe, "--verifier", TEACHER, "--images", "3", "--store", store, "--json")
    found = [json.loads(command(*words)[1]) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0]["score"] == "verifier_agreement"
    (values,) = values_of(store, Audit(found[0]["version"], found[0]["score"], (), {}, "")).values()
    assert found[0]["concepts"][0]["right"] == sum(value >= 0.5 for value in values)
    code, printed, err = command(*words[:-1])
    assert (code, err) == (0, "")
    assert "pictures: " in printed


def test_what_nothing_can_judge_is_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tiny_recipe.parent, concepts=GEAR)
    with pytest.raises(RecipeError, match="nothing tells whether an image shows its concept; give --verifier"):
        audit_recipe(str(recipe), str(tmp_path / "store"), 3)
    with pytest.raises(RecipeError, match="engine natural_inversion does not"):
        audit_recipe("workshop_inversion", str(tmp_path / "store"), 3)
    assert not Store.open(str(tmp_path / "store")).exists("datasets")
