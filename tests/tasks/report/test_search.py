"""The report's numbers of a search."""

import json

import pyarrow as pa

from tailforge.tasks.report.search import count_search, describe_search


def origin(**changes: object) -> str:
    found = {"forward_evaluations": 100, "backward_evaluations": 20, "iterations": 4, "stop_reason": "confident",
             "confidence": 1.2, "nearest_reference": 0, "reference_cosine": 0.5}  # fmt: skip
    return json.dumps(found | changes)


def table(*rows: tuple[str, str]) -> pa.Table:
    return pa.table({"concept": [row[0] for row in rows], "provenance": [row[1] for row in rows]})


def test_a_row_a_concept_over_accepted_and_rejected_images() -> None:
    accepted = table(("hook", origin()), ("gear", origin(iterations=0)))
    rejected = table(("hook", origin(iterations=10, stop_reason="no_better", confidence=0.2)), ("hook", "{}"))
    hook, gear = count_search([accepted, rejected])
    assert (hook.concept, hook.images, hook.steps, hook.evaluations) == ("hook", 2, 7, 120)
    assert hook.confidence == (1.2 + 0.2) / 2
    assert hook.reasons == (("reached stop", 1), ("no better", 1))
    assert (gear.concept, gear.steps) == ("gear", 0)


def test_what_does_not_search_has_no_rows_and_no_facts() -> None:
    assert count_search([table(("hook", json.dumps({"seed": 1})), ("hook", "{}"))]) == []
    assert describe_search(json.dumps({"seed": 1})) == describe_search(None) == {}


def test_facts_of_a_search_without_gradients_leave_out_what_it_has_not() -> None:
    facts = describe_search(json.dumps({"forward_evaluations": 8, "backward_evaluations": 0}))
    assert facts["Network evaluations"] == "8 forward, 0 backward"
    assert facts["Search ended"] is facts["Nearest reference"] is facts["Confidence"] is None
