"""The report's numbers of an inversion."""

import json

import pyarrow as pa
import pytest

from tailforge.tasks.report.inversion import count_inversion, describe_inversion, sum_inversion


def origin(**changes: object) -> str:
    losses = {"total": 1.5, "cross_entropy": 0.5, "statistics": 1.0, "variation": 20.0, "norm": 90.0}
    found = {"teacher_agreement": 0.9, "agrees": True, "agrees_before_saving": True, "losses": losses, "step": 40,
             "steps": 50, "stop_reason": "settled", "channel_scales": [2.0, 2.5, 3.0]}  # fmt: skip
    return json.dumps(found | changes)


def table(*rows: tuple[str, str]) -> pa.Table:
    return pa.table({"concept": [row[0] for row in rows], "provenance": [row[1] for row in rows]})


ACCEPTED = table(("hook", origin()), ("gear", origin(teacher_agreement=0.6)))
REJECTED = table(("hook", origin(agrees=False, teacher_agreement=0.1, steps=100, stop_reason="steps")), ("hook", "{}"))


def test_a_row_a_concept_over_accepted_and_rejected_images() -> None:
    hook, gear = count_inversion([ACCEPTED, REJECTED])
    assert (hook.concept, hook.images, hook.agreed_before, hook.agreed, hook.steps) == ("hook", 2, 1.0, 0.5, 75)
    assert (hook.probability, hook.cross_entropy, hook.statistics) == (0.5, 0.5, 1.0)
    assert hook.reasons == (("settled", 1), ("out of steps", 1))
    assert (gear.concept, gear.images, gear.probability) == ("gear", 1, 0.6)


def test_a_sum_weighs_concepts_by_their_images() -> None:
    whole = sum_inversion([ACCEPTED, REJECTED])
    assert whole["images"] == 3
    assert whole["agreed"] == pytest.approx(2 / 3, abs=1e-6)
    assert whole["probability"] == pytest.approx((0.9 + 0.6 + 0.1) / 3, abs=1e-6)


def test_what_was_not_inverted_has_no_rows_and_no_facts() -> None:
    assert count_inversion([table(("hook", json.dumps({"seed": 1})), ("hook", "{}"))]) == []
    assert sum_inversion([table(("hook", "{}"))]) == {}
    assert describe_inversion(json.dumps({"seed": 1})) == describe_inversion(None) == {}


def test_facts_of_one_image() -> None:
    facts = describe_inversion(origin(agrees=False))
    assert facts["Teacher agrees"] == "no (before rounding to 8 bits: yes)"
    assert facts["Losses of its batch"] == "cross-entropy 0.5, BatchNorm statistics 1, total variation 20, norm 90"
    assert facts["Channel scales"] == "2, 2.5, 3"
    assert describe_inversion(origin(channel_scales=None))["Channel scales"] is None
