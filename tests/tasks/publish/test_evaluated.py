"""Copies of report, card and Croissant file that an evaluation writes: what they hold, and how the page looks."""

import json
from pathlib import Path

import pytest

from tailforge.catalog.metadata.evaluations import keep_record, name_files, read_worth
from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.schemas.documents.worth import Worth
from tailforge.schemas.errors import VerificationError
from tailforge.tasks.publish.evaluated import describe_evaluated
from tailforge.tasks.report.page import draw_report
from tests.support.chromium import Chromium, needs_browser
from tests.support.evaluated import make_record
from tests.support.fabricate import make_build, publish_build
from tests.support.report_tables import TEMPLATES, make_data, make_manifest, make_recipe, make_rejects, make_row

FOLDER = "evaluations/tiny/1.0.0"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a version of dataset `tiny` that has a report."""
    store = Store.open(str(tmp_path / "store"), create=True)
    rows = [make_row(k, name, sharpness=50.0 + k) for k, name in enumerate(("gear", "hook", "gear"))]
    files = draw_report(make_data(make_manifest(*rows), make_rejects()), TEMPLATES)
    build = make_build(store, make_recipe(), {"gear": 8, "hook": 8})
    publish_build(build, {f"report/{name}": content for name, content in files.items()})
    return store


def evaluate(store: Store, outcome: str = "gain") -> None:
    """Write what an evaluation of the version writes."""
    record = make_record(outcome)
    describe_evaluated(store, load_dataset(store, "tiny"), Worth.read(record))
    keep_record(store, name_files("tiny", "1.0.0", "0123"), record)


def read(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(store.address(FOLDER)).rglob("*") if path.is_file()}


def test_the_copies_hold_the_result_and_the_version_stays_as_it_is(store: Store) -> None:
    published = store.read("datasets/tiny/1.0.0/report/index.html")
    evaluate(store)
    page = store.read(f"{FOLDER}/report/index.html").decode()
    assert "Not evaluated" in published.decode()
    assert "Not evaluated" not in page
    assert page.count("The version helps") == 2
    assert store.read("datasets/tiny/1.0.0/report/index.html") == published
    assert verify(store, "tiny", "1.0.0") == []
    pictures = [name for name in load_dataset(store, "tiny").files if name.startswith("report/images/")]
    assert pictures
    assert all(store.exists(f"{FOLDER}/{name}") for name in pictures)


def test_the_summary_tells_the_worth_beside_the_facts(store: Store) -> None:
    before = json.loads(store.read("datasets/tiny/1.0.0/report/summary.json"))
    evaluate(store)
    after = json.loads(store.read(f"{FOLDER}/report/summary.json"))
    assert before["worth"] == "not evaluated"
    assert after["worth"]["gains"][0]["gain_tail"]["value"] == 0.2
    assert {**after, "worth": before["worth"], "verdict": before["verdict"]} == before
    assert before["verdict"]["level"] == "bad"  # the verdict on a build that is not complete stays
    assert after["verdict"] == before["verdict"]


def test_equal_evaluations_have_equal_bytes_and_the_newest_counts(store: Store) -> None:
    evaluate(store)
    once = read(store)
    evaluate(store, "loss")
    assert "The version harms" in store.read(f"{FOLDER}/report/index.html").decode()
    evaluate(store)
    assert read(store) == once


def test_a_lost_report_is_left_out(store: Store) -> None:
    store.remove("datasets/tiny/1.0.0/report")
    evaluate(store)
    assert not store.exists(f"{FOLDER}/report")
    assert "The version helps" in store.read(f"{FOLDER}/README.md").decode()


@pytest.mark.parametrize(
    "record", [{"verdict": 3}, {"arms": "all"}, {"doses": [{"arm": "mixed", "share": "half"}]}, {"format": "other/9"}]
)
def test_a_damaged_record_is_an_error_that_says_what_to_do(store: Store, record: dict[str, object]) -> None:
    keep_record(store, name_files("tiny", "1.0.0", "0123"), make_record() | record)
    with pytest.raises(VerificationError, match=r"is damaged: .*run `tailforge evaluate` again"):
        read_worth(store, "tiny", "1.0.0")


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(320, False), (390, True), (1280, False)])
def test_the_page_with_the_result_fits_every_window(store: Store, browser: Chromium, width: int, dark: bool) -> None:
    evaluate(store)
    browser.open(Path(store.address(f"{FOLDER}/report/index.html")), width=width, dark=dark)
    assert browser.complaints() == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    bars = "[...document.querySelectorAll('#worth .pairs i')].map((bar) => bar.getBoundingClientRect().width)"
    without, with_version = browser.evaluate(bars)[2:]
    assert with_version / without == pytest.approx(50 / 30, rel=0.05)
