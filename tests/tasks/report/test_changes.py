"""What changed between two versions, and the plots over versions."""

import pytest

from tailforge.tasks.report.changes import Change, compare_builds, flatten
from tailforge.tasks.report.data import Previous, VersionCounts
from tailforge.tasks.report.history import draw_history, draw_scores
from tailforge.tasks.report.trends import HEIGHT, WIDTH, Reading, draw_trend
from tests.support.report_tables import make_manifest, make_receipt, make_recipe, make_row


def make_previous(**values: object) -> Previous:
    known = {
        "version": "1.0.0", "recipe": make_recipe().model_dump(mode="json"), "models": {"generator": "ab"},
        "libraries": {"numpy": ["2.4.6"]}, "fingerprints": {}, "passed": {}, "added": (), "removed": {}, "changed": {},
    }  # fmt: skip
    return Previous(**{**known, **values})  # type: ignore[arg-type]


def test_samples_recipe_models_and_libraries_are_compared() -> None:
    before = make_previous(
        models={"generator": "cd", "scorer": "ef"},
        libraries={"numpy": ["2.4.5"]},
        added=(f"{1:016x}", f"{2:016x}"),
        removed={f"{9:016x}": "hook"},
        changed={f"{3:016x}": ("caption", "members.png"), f"{4:016x}": ("caption",)},
        recipe=make_recipe().model_dump(mode="json") | {"seed": 7, "gone": 1},
    )
    manifest = make_manifest(make_row(1, "gear"), make_row(2, "gear"), make_row(3, "hook"), make_row(4, "hook"))
    found = compare_builds(before, make_recipe(), manifest, {"generator": "ab"}, [make_receipt("samples", 4, 1.0)])
    assert (found.added, found.removed, found.changed) == ({"gear": 2}, {"hook": 1}, 2)
    assert found.columns == {"caption": 2, "members.png": 1}
    assert found.recipe == (Change("seed", "7", "1"), Change("gone", "1", ""))
    assert found.models == (Change("generator", "cd", "ab"), Change("scorer", "ef", ""))
    assert found.libraries == (Change("numpy", "2.4.5", "2.4.6"),)
    assert found.remade == {}  # the version before names no fingerprints
    assert found.examples["changed"] == (f"{3:016x}",)  # of the other the image is as it was


def test_partitions_that_the_version_before_does_not_hold_are_made_anew() -> None:
    before = make_previous(fingerprints={"samples": {"a", "b"}, "masks": {"c"}})
    work = [("samples", "a"), ("samples", "d"), ("masks", "e"), ("masks", "f"), ("prompts", "g")]
    receipts = [make_receipt(stage, 4, 1.0).model_copy(update={"fingerprint": own}) for stage, own in work]
    found = compare_builds(before, make_recipe(), make_manifest(), {"generator": "ab"}, receipts)
    assert found.remade == {"samples": 1, "masks": 2}


def test_no_change_is_empty() -> None:
    found = compare_builds(
        make_previous(), make_recipe(), make_manifest(), {"generator": "ab"}, [make_receipt("samples", 4, 1.0)]
    )
    assert (found.added, found.removed, found.changed) == ({}, {}, 0)
    assert (found.recipe, found.models, found.libraries) == ((), (), ())


def test_a_recipe_is_flattened_by_the_names_of_its_entries() -> None:
    recipe = {
        "concepts": [{"name": "gear", "requested": 3}],
        "splits": {"train": 0.8},
        "tags": ["a", "b"],
        "none": None,
    }
    assert flatten(recipe) == {
        "concepts.gear.name": "gear", "concepts.gear.requested": "3", "splits.train": "0.8", "tags": "a, b", "none": "",
    }  # fmt: skip


def test_marks_lie_from_left_to_right_on_their_scale() -> None:
    drawn = draw_trend("Score", [Reading("1.0.0", 0.0, 1.0, 2.0, "one"), Reading("2.0.0", 1.0, 4.0, 4.0, "two")])
    assert drawn is not None
    first, second = drawn.marks
    assert (first.x, second.x) == (WIDTH / 4, 3 * WIDTH / 4)
    assert [mark.last for mark in drawn.marks] == [False, True]
    assert 0 < second.y < first.y < HEIGHT
    assert first.top + first.height == pytest.approx(max(y for y, _ in drawn.ticks))
    assert drawn.summary == "Score: 1.0.0: one; 2.0.0: two"
    assert [label for _, label, _ in drawn.labels] == ["1.0.0", "2.0.0"]


def test_a_flat_line_and_many_versions_are_drawn_inside() -> None:
    drawn = draw_trend("Score", [Reading(f"{k}.0.0", 5.0, 5.0, 5.0, "five") for k in range(11)])
    assert drawn is not None
    assert {mark.y for mark in drawn.marks} == {HEIGHT / 2}
    assert [(label, anchor) for _, label, anchor in drawn.labels] == [
        ("0.0.0", "start"), ("3.0.0", "middle"), ("7.0.0", "middle"), ("10.0.0", "end"),
    ]  # fmt: skip
    assert draw_trend("Score", []) is None


def test_the_history_draws_what_is_known() -> None:
    def counts(version: str, seconds: float | None, accepted: int = 8) -> VersionCounts:
        return VersionCounts(version, 10, accepted, 0, 2, 0, seconds, {"clip_score": (0.1, 0.2, 0.3, 10)})

    known = draw_history([counts("1.0.0", None), counts("2.0.0", 16.0)])
    assert [plot.title for plot in known] == ["Accepted images", "Passed every gate, %", "Seconds per accepted image"]
    assert [mark.title for mark in known[2].marks] == ["2.0.0: 2 s"]
    assert known[1].marks[0].title == "1.0.0: 80.0 %, 8 of 10 made"
    (score,) = draw_scores([counts("1.0.0", None), counts("2.0.0", 16.0)], [])
    assert (score.title, score.flagged, len(score.plot.marks)) == ("CLIP score", False, 2)
