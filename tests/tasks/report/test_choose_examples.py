"""Which images the report shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.tasks.report.page import choose_examples, examples_per_concept
from tests.support.report_tables import make_manifest, make_rejects, make_row


def test_examples_are_the_first_by_id_without_copies_and_failures() -> None:
    manifest = make_manifest(
        make_row(9, "gear"),
        make_row(2, "hook"),
        make_row(5, "gear"),
        make_row(1, "gear"),
        make_row(0, "gear", parent_id="1"),
    )
    rejects = make_rejects(
        make_row(20, "gear", reason="blur"),
        make_row(21, "gear", reason="blur"),
        make_row(30, "hook", reason="blur"),
        make_row(22, "gear", reason="dark"),
        make_row(10, "gear", reason="blur", status="failed", error="NaN"),
    )
    accepted, rejected = choose_examples(manifest, rejects, per_concept=2, per_reason=2)
    assert [int(sample_id, 16) for sample_id in accepted] == [1, 5, 2]
    assert [int(sample_id, 16) for sample_id in rejected] == [20, 30, 22]


@given(st.permutations(range(12)))
def test_the_choice_does_not_depend_on_the_order_of_rows(order: list[int]) -> None:
    accepted = [make_row(k, "gear" if k % 3 else "hook") for k in order]
    rejected = [make_row(k, "gear" if k % 3 else "hook", reason="ab"[k % 2]) for k in order]
    plain = [sorted(rows, key=lambda row: row["sample_id"]) for rows in (accepted, rejected)]
    chosen = choose_examples(make_manifest(*accepted), make_rejects(*rejected), 3, 3)
    assert chosen == choose_examples(make_manifest(*plain[0]), make_rejects(*plain[1]), 3, 3)


@pytest.mark.parametrize(("concepts", "shown"), [(1, 12), (25, 12), (30, 10), (254, 2)])
def test_many_concepts_show_fewer_images_each(concepts: int, shown: int) -> None:
    assert examples_per_concept(concepts) == shown
