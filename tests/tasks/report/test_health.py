"""The verdict on a build, and where its images are lost."""

import pytest

from tailforge.schemas.receipts import Receipt
from tailforge.tasks.report.data import PartitionWork
from tailforge.tasks.report.drift import Drift
from tailforge.tasks.report.health import Verdict, fell, judge_build
from tailforge.tasks.report.losses import FailureRow, count_failures, count_losses
from tailforge.tasks.report.outcomes import ConceptRow, count_concepts
from tests.support.report_tables import make_manifest, make_receipt, make_recipe, make_rejects, make_row


def make_drift(flagged: bool) -> Drift:
    return Drift("clip_score", "", "1.0.0", 50, 50, 0.3, 0.4, 0.6, 0.2, flagged)


def judge(
    *, missing: int = 0, failed: int = 0, drifted: bool = False, unreadable: bool = False, has_gates: bool = True
) -> Verdict:
    concept = ConceptRow(0, "gear", 10, 10 - missing, 0, 90, 0)
    losses = count_losses(make_recipe(), [concept], make_rejects())
    failures = [FailureRow("samples", "NaN", failed, ("gear r0 t #0",), 0, "look")] if failed else []
    broken = [("1.0.0", "no such file")] if unreadable else []
    return judge_build([concept], losses, failures, [make_drift(drifted)], {}, broken, {}, has_gates=has_gates)


def test_a_night_without_findings_is_complete_and_not_evaluated() -> None:
    verdict = judge()
    assert (verdict.level, verdict.findings) == ("complete", ())
    assert (verdict.text, verdict.build) == (
        "Not evaluated: 10 of 10 requested images",
        "Complete: 10 of 10 requested images",
    )


@pytest.mark.parametrize(
    ("found", "level", "text", "anchor"),
    [
        ({"missing": 2}, "bad", "1 concept short: gear by 2", "concepts"),
        ({"failed": 5}, "look", "5 images failed: NaN (5)", "failures"),
        ({"failed": 6}, "bad", "6 images failed: NaN (6)", "failures"),  # of 100 made
        ({"drifted": True}, "look", "1 score drifted: CLIP score", "drift"),
        ({"unreadable": True}, "look", "1.0.0 could not be read: no such file", "history"),
    ],
)
def test_each_finding_has_a_level_and_a_section(found: dict[str, int], level: str, text: str, anchor: str) -> None:
    verdict = judge(**found)
    (finding,) = verdict.findings
    assert (verdict.level, finding.level, finding.text, finding.anchor) == (level, level, text, anchor)


def test_the_worst_finding_comes_first_and_decides() -> None:
    verdict = judge(missing=1, failed=1, drifted=True)
    assert [finding.level for finding in verdict.findings] == ["bad", "look", "look"]
    assert verdict.text == "Not as it should be: 9 of 10 requested images"


@pytest.mark.parametrize(
    ("now", "before", "fallen"),
    [
        ((80, 100), (95, 100), True),
        ((80, 100), (84, 100), False),  # by 4 points
        ((24, 30), (28, 30), False),  # by 13 points, of few images
        ((10, 20), (100, 100), False),  # of too few
        ((95, 100), (80, 100), False),  # it rose
        ((100, 100), (100, 100), False),
    ],
)
def test_a_share_fell_where_it_is_large_and_certain(
    now: tuple[int, int], before: tuple[int, int], fallen: bool
) -> None:
    assert fell(now, before) is fallen


def test_images_are_lost_by_concept_and_first_gate() -> None:
    manifest = make_manifest(make_row(1, "gear"), make_row(2, "hook"))
    rejects = make_rejects(
        make_row(3, "gear", reason="sharpness_low"),
        make_row(4, "hook", reason="sharpness_low"),
        make_row(5, "hook", status="failed", error="NaN"),
        make_row(6, "gear", reason="surplus"),
    )
    gear, hook = count_losses(make_recipe(), count_concepts(make_recipe(), manifest, rejects), rejects)
    assert (gear.made, gear.passed, dict(gear.lost)) == (3, 2, {"sharpness_low": 1, "failed": 0})
    assert (hook.made, hook.passed, dict(hook.lost)) == (3, 1, {"sharpness_low": 1, "failed": 1})
    assert list(gear.lost) == ["sharpness_low", "failed"]


def make_work(label: str, **counts: dict[str, int]) -> PartitionWork:
    """A partition whose stages count these errors."""
    receipts: list[Receipt] = []
    for stage, errors in counts.items():
        named = {f"error:{text}": n for text, n in errors.items()}
        receipts.append(make_receipt(stage, 8, 1.0).model_copy(update={"label": label, "counts": named}))
    return PartitionWork("gear", tuple(receipts))


def test_a_failure_is_told_once_where_it_began_with_what_to_do() -> None:
    work = [
        make_work(
            "gear r0 t #0", samples={"NaN": 2}, masks={"NaN": 2, "no map of 0123456789abcdef": 1}, verdicts={"NaN": 2}
        ),
        make_work("gear r0 t #1", samples={"NaN": 1}, masks={"NaN": 1, "no map of fedcba9876543210": 3}),
        make_work("gear r0 t #2", samples={"out of memory with a batch of one": 1}),
    ]
    maps, nan, memory = count_failures("tiny", work)
    assert (maps.stage, maps.cause, maps.count) == ("masks", "no map of ...", 4)
    assert maps.partitions == ("gear r0 t #1", "gear r0 t #0")
    assert maps.mend.startswith("tailforge rerun tiny --stage masks")
    assert (nan.stage, nan.count, nan.mend[:38]) == ("samples", 3, "tailforge rerun tiny --failed-samples;")
    assert "smaller engine.height" in memory.mend


def test_of_many_partitions_the_first_three_are_named() -> None:
    (row,) = count_failures("tiny", [make_work(f"gear r0 t #{k}", samples={"NaN": 1}) for k in range(5)])
    assert (row.count, len(row.partitions), row.more) == (5, 3, 2)


def test_without_gates_nothing_is_called_fine() -> None:
    verdict = judge(has_gates=False)
    assert (verdict.level, verdict.text) == ("look", "Not checked: 10 of 10 requested images")
    assert [finding.text for finding in verdict.findings] == ["No gate checked the images: quality.gates is none"]
    assert judge(has_gates=False, missing=1).level == "bad"
