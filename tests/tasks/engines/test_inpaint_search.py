"""Builds that search for the noise of a region: provenance, the same image again, and recipes that are refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build.walk import plan_build
from tailforge.flows.samples.regenerate import regenerate_sample
from tailforge.schemas.effort import count_passes
from tailforge.schemas.errors import UserError
from tailforge.tasks.engines.work.region_search import cut_defects
from tests.support.inpaint_recipes import write_inpaint, write_parts
from tests.support.local_builds import build_here
from tests.support.tiny_clip import save_clip

KNOWN: dict[str, Any] = {"kind": "references", "folder": "known"}
SEARCH: dict[str, Any] = {"candidates": 3, "screening_steps": 2, "encoder": {"model": "clip"}}


def write_search(folder: Path, engine: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write a recipe with photographs, known defects (parts, here) and a CLIP model beside it."""
    write_parts(folder / "good", 3)
    write_parts(folder / "known", 2)
    save_clip(folder / "clip")
    settings = {"steps": 4, "regions": KNOWN, "search": SEARCH} | (engine or {})
    return write_inpaint(folder, settings, **{"concepts": [{"name": "gear", "requested": 2}]} | changes)


def test_the_best_candidate_is_published_and_made_again(tmp_path: Path) -> None:
    recipe, store = write_search(tmp_path / "recipe"), str(tmp_path / "store")
    context = prepare_build(str(recipe), store)
    version = build_here(context)
    assert plan_build(context).complete
    rows = pq.read_table(version / "manifest.parquet").to_pylist()
    assert len(rows) == 2
    defects = list(cut_defects(context.images["engine.regions"]))
    for row in rows:
        origin = json.loads(row["provenance"])
        assert 0 <= origin["candidate"] < 3
        assert origin["candidate_score"] >= origin["own_score"]
        assert (origin["candidate_score"] > origin["own_score"]) == (origin["candidate"] > 0)
        assert origin["forward_evaluations"] == 2 * (3 * 2 + 4)
        assert origin["known_defects"] == len(defects) >= 2
        assert origin["encoder"] == {"digest": context.encoder.digest}  # type: ignore[union-attr]
        assert origin["search"] == {"candidates": 3, "screening_steps": 2, "target": "difference"}
    where = "tiny", store, tmp_path / "again.png", tmp_path / "recipe"
    assert regenerate_sample(rows[0]["sample_id"], *where)["equal"] is True


def test_a_search_costs_the_steps_of_its_candidates() -> None:
    engine = {"kind": "inpaint", "steps": 20, "guidance": 1, "strength": 0.5, "resample": 1}
    search = {"candidates": 8, "screening_steps": None, "target": "difference"}
    assert count_passes({"engine": engine | {"search": search}}) == (10 + round(0.7 * 8 * 5), 0)


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "random shapes": ({"regions": {"kind": "shapes"}}, r"engine\.search compares 'gear' .* engine\.regions, but"),
    "one concept of random shapes": (
        {"concept_regions": {"gear": {"kind": "shapes"}}},
        r"defects of the images in engine\.concept_regions\.gear, but its regions are random shapes",
    ),
    "no encoder": ({"search": {"candidates": 3}}, r"give engine\.search\.encoder or quality\.scorer"),
    "resampling": ({"resample": 2}, "resample 2 adds noise to the drawing"),
    "no step for a candidate": ({"strength": 0.4}, r"strength 0\.4 leaves no step of 2 to draw a candidate in"),
    "no CLIP model": ({"search": SEARCH | {"encoder": {"model": "good"}}}, r"engine\.search\.encoder"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_search_that_cannot_be_is_refused(case: str, tmp_path: Path) -> None:
    engine, message = CASES[case]
    with pytest.raises(UserError, match=message):
        prepare_build(str(write_search(tmp_path, engine)), str(tmp_path / "store"))
