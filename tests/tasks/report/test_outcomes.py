"""What a build came to, counted."""

import pytest

from tailforge.tasks.report.outcomes import count_concepts, count_splits, sum_timings
from tests.support.report_tables import make_manifest, make_receipt, make_recipe, make_rejects, make_row


def test_counts_leave_augmented_copies_apart() -> None:
    manifest = make_manifest(make_row(1, "gear"), make_row(2, "gear", split="test"), make_row(3, "gear", parent_id="1"))
    rejects = make_rejects(
        make_row(4, "gear", reason="blur"), make_row(5, "hook", reason="blur"), make_row(6, "gear", reason="surplus")
    )
    gear, hook = count_concepts(make_recipe(), manifest, rejects)
    assert (gear.accepted, gear.surplus, gear.rejected, gear.copies) == (2, 1, 1, 1)
    assert (gear.missing, gear.rate) == (1, 3 / 4)
    assert (hook.accepted, hook.rejected, hook.missing, hook.rate) == (0, 1, 2, 0.0)
    assert count_splits(make_recipe(), manifest) == [("train", 1, 4.0), ("test", 1, 1.0)]


def test_timings_add_up_by_stage_in_order() -> None:
    first, second = sum_timings(
        [make_receipt("synthesize", 10, 3.0), make_receipt("annotate", 10, 1.0), make_receipt("synthesize", 5, 4.0)]
    )
    assert (first.name, first.partitions, first.samples, first.seconds, first.share) == (
        "synthesize",
        2,
        15,
        7.0,
        7 / 8,
    )
    assert first.rate == pytest.approx(15 / 7)
    assert (second.name, second.share) == ("annotate", 1 / 8)


def test_no_time_is_no_rate() -> None:
    (stage,) = sum_timings([make_receipt("plan", 10, 0.0)])
    assert (stage.share, stage.rate) == (0.0, None)
