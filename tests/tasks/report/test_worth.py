"""What the report says of a version's worth: before an evaluation, after it, and with parts of the record missing."""

from typing import Any

import pytest

from tailforge.schemas.documents.worth import Figure, Gain, Worth
from tailforge.tasks.report.worth import draw_parts, replace_parts, view_worth
from tests.support.evaluated import make_record
from tests.support.report_tables import HOSTILE, TEMPLATES, Page, make_data, make_manifest, make_rejects, make_row
from tests.support.report_tables import read_page as read_report


def draw(record: dict[str, Any] | None) -> Page:
    """The two parts of a report, parsed."""
    worth = None if record is None else Worth.read(record)
    return Page("".join(draw_parts(view_worth("tiny", "1.0.0", worth), TEMPLATES).values()).encode())


def test_figures_in_words() -> None:
    assert Figure(value=0.5, low=0.25, high=0.75).percent == "50.0 (25.0 to 75.0) %"
    assert Figure(value=0.5).percent == "50.0 %"
    assert Gain(value=-0.015, low=-0.03, high=0.0).points == "-1.5 (95 % interval -3.0 to +0.0)"
    assert (Figure().percent, Gain().points) == ("–", "–")


def test_a_published_report_says_that_it_was_not_evaluated() -> None:
    page = read_report(make_data(make_manifest(make_row(1, "gear")), make_rejects()))
    assert "? Not evaluated Nothing shows yet what these images are worth to a model." in page.text
    assert "tailforge evaluate tiny@1.0.0 --real IMAGES" in page.text
    assert "Fine" not in page.text


@pytest.mark.parametrize(
    ("outcome", "mark", "title"),
    [("gain", "✓", "The version helps"), ("loss", "✕", "The version harms"), ("no difference", "!", "No difference")],
)
def test_the_first_box_says_what_the_version_is_worth(outcome: str, mark: str, title: str) -> None:
    page = draw(make_record(outcome))
    assert f"{mark} {title}" in page.text
    assert "Recall of rare classes +20.0" in page.text


def test_recall_per_class_the_dose_and_the_gains_are_shown() -> None:
    page = draw(make_record())
    assert "gear 40 80.0 % 78.0 to 82.0 81.0 % 79.0 to 83.0" in page.text
    assert "hook rare 5 30.0 % 28.0 to 32.0 50.0 % 48.0 to 52.0" in page.text
    assert "mixed +20.0 (95 % interval +15.0 to +25.0)" in page.text
    assert "share 0.25: 40.0 (38.0 to 42.0) %; share 0.5: 50.0 (48.0 to 52.0) %" in page.text
    assert page.values("circle", "cx")[-2:] == ["80.0", "160.0"]
    assert page.values("circle", "cy")[-2:] == ["74.67", "37.33"]  # of 30 to 60 %


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_flat_dose_curve_is_drawn(value: float) -> None:
    record = make_record()
    record["doses"] = [{"arm": "mixed", "share": 0.5, "tail": {"value": value}}]
    (height,) = [float(y or 0) for y in draw(record | {"exchange": None}).values("circle", "cy")]
    assert 0 <= height <= 112


def test_the_exchange_rate_is_shown_with_its_curve() -> None:
    page = draw(make_record())
    assert (
        "100 synthetic images are worth 15 real images of rare classes (95 % interval 10 to more than 45)." in page.text
    )
    # One doubling of 1 + 5 images, of two: the curve reaches the level in the middle.
    *_, mark = page.values("circle", "cx")[:4]
    assert float(mark or 0) == pytest.approx(160)
    record = make_record()
    record["exchange"]["points"][0]["tail"] = {}
    assert "100 synthetic images are worth 15" in draw(record).text


PARTS = ("exchange", "classes", "arms", "gains", "doses", "baseline", "settings", "real")


@pytest.mark.parametrize("missing", [*((each,) for each in PARTS), PARTS])
def test_a_record_without_some_parts_is_shown_without_them(missing: tuple[str, ...]) -> None:
    record = {key: value for key, value in make_record().items() if key not in missing}
    assert "The version helps" in draw(record).text


def test_figures_that_were_not_measured_are_dashes() -> None:
    record = make_record()
    record["arms"][0]["recall"][1] = {"class": "hook", "value": None, "low": None, "high": None}
    assert "hook rare 5 – 50.0 %" in draw(record).text


def test_a_record_is_escaped() -> None:
    page = draw(make_record(name=HOSTILE))
    assert page.values("script", "nonce") == []
    assert HOSTILE in page.text


def test_the_parts_of_a_page_are_replaced_and_nothing_else() -> None:
    before, after = (
        draw_parts(view_worth("tiny", "1.0.0", worth), TEMPLATES) for worth in (None, Worth.read(make_record()))
    )
    page = "<head>{verdict}<main>a{worth}b</main>"
    assert replace_parts(page.format(**before), after) == page.format(**after)
    assert replace_parts("<main>a</main>", after) == f"<main>a{after['worth']}</main>"
    assert replace_parts("bare", after) == f"bare{after['worth']}"
