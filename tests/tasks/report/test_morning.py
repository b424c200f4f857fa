"""The report's first sections: what they tell, that they escape it, and how they look on a telephone (Chromium)."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tailforge.schemas.recipe import Concept
from tailforge.tasks.report.data import Earlier, PartitionWork, Previous, ReportData, VersionCounts
from tailforge.tasks.report.drift import Comparison
from tailforge.tasks.report.page import draw_report
from tests.support.chromium import Chromium, needs_browser
from tests.support.report_tables import (
    HOSTILE,
    TEMPLATES,
    Page,
    make_data,
    make_manifest,
    make_picture,
    make_receipt,
    make_recipe,
    make_rejects,
    make_row,
)

GATES = (
    "sharpness",
    "clip_score",
    "brightness",
    "contrast",
    "concept_margin",
    "mask_confidence",
    "mask_area",
    "clipped",
)
REASONS = (*(f"{gate}_low" for gate in GATES), "blank", "near_duplicate", "near_reference", "too_purple")


def make_history(name: str, versions: int) -> Earlier:
    """Versions before 1.0.0 with a score that drifted since; `name` stands wherever a text can come from outside."""
    known = [
        VersionCounts(f"0.{number}.0", 50, 40 + number, 2, 8, 1, 100.0, {"sharpness": (50.0, 60.0 + number, 70.0, 51)})
        for number in range(versions)
    ]
    drifted = [Comparison("sharpness", concept, name, 90, 80, 120.0, 60.0, 0.75) for concept in ("", name)]
    previous = Previous(
        version=name,
        recipe=make_recipe().model_dump(mode="json") | {name: name},
        models={name: name},
        libraries={name: [name]},
        fingerprints={},
        passed={"gear": (100, 100)},
        added=(f"{1:016x}",),
        removed={f"{99:016x}": name},
        changed={f"{2:016x}": ("members.png",)},
        pictures={f"{99:016x}": make_picture(), f"{2:016x}": b"no picture"},
    )
    return Earlier(known, drifted, [(name, name)], previous)


def make_report(name: str = "a name", versions: int = 9) -> ReportData:
    """A report in which something is found of everything that can be found."""
    accepted = [make_row(k, "gear", sharpness=80.0 + k) for k in range(1, 3)]
    lost = [make_row(10 + k, "gear", reason=REASONS[k % len(REASONS)], sharpness=20.0) for k in range(48)]
    failed = [make_row(100 + k, "hook", status="failed", error=name) for k in range(3)]
    step = make_receipt("samples", 8, 30.0).model_copy(update={"label": f"{name} #0", "counts": {f"error:{name}": 3}})
    slow = [
        make_receipt("samples", 8, 3.0).model_copy(update={"label": f"{name} #{k}", "uri": str(k)}) for k in range(4)
    ]
    return dataclasses.replace(
        make_data(make_manifest(*accepted), make_rejects(*lost, *failed)),
        receipts=[step, *slow],
        work=[PartitionWork("hook", (step,))],
        earlier=make_history(name, versions),
        models={"generator": "ab"},
        pictures={f"{k:016x}": make_picture() for k in (1, 2)},
    )


def read_files(data: ReportData) -> tuple[Page, dict[str, Any], dict[str, bytes]]:
    files = draw_report(data, TEMPLATES)
    return Page(files["index.html"]), json.loads(files["summary.json"]), files


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    for name, content in draw_report(make_report(HOSTILE), TEMPLATES).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / "index.html"


def test_the_page_tells_what_was_found() -> None:
    page, _, _ = read_files(make_report())
    for words in (
        "Not as it should be: 2 of 5 requested images",
        "2 concepts short: gear by 1, hook by 2",
        "3 images failed: a name (3)",
        "Fewer images pass: gear from 100 % to 4.0 %",
        "1 score drifted: Sharpness",
        "a name could not be read: a name",
        "1 added, 1 removed, 1 changed; 1 field of the recipe",
        "What to do: tailforge rerun tiny --failed-samples",
        "0.75 against a name: median 60 to 120 (90 new images, critical 0.27)",
        "0.75 against a name in a name",
        "42.0 s of computing, 21.0 s per accepted image",
        "a name #0 samples 30.0 s 10 8",
        "gear 4.0 % 8.0 %",
    ):
        assert words in page.text, words


def test_the_summary_holds_the_facts_of_the_page() -> None:
    page, summary, files = read_files(make_report())
    assert (summary["format"], summary["dataset"], summary["version"]) == ("tailforge-report/1", "tiny", "1.0.0")
    assert summary["verdict"]["level"] == "bad"
    assert summary["verdict"]["text"] in page.text
    assert all(finding["text"] in page.text for finding in summary["verdict"]["findings"])
    assert summary["changes"]["removed"] == {"a name": 1}
    assert [row["lost"]["sharpness_low"] for row in summary["losses"]] == [4, 0]
    assert summary["costs"]["slowest"][0]["times"] == 10
    assert [row["version"] for row in summary["history"]] == [*(f"0.{k}.0" for k in range(9)), "1.0.0"]
    assert [row["flagged"] for row in summary["drift"]] == [True, True]
    assert {f"images/{1:016x}.png", f"images/{2:016x}.png", f"before/{99:016x}.png"} <= set(files)
    assert f"before/{2:016x}.png" not in files  # no picture: it could not be opened


def test_equal_data_give_equal_files() -> None:
    assert draw_report(make_report(), TEMPLATES) == draw_report(make_report(), TEMPLATES)


def test_every_plot_has_a_title_and_says_its_numbers() -> None:
    data = make_report()
    page, _, files = read_files(data)
    plots = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(plots) == 1 + 1 + 3  # histogram, score over versions, three of the history
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    assert files["index.html"].count(b"<desc>") == 4
    assert "0.8.0: median 68, quartiles 50 to 70, 51 images" in str(plots[0]["aria-label"])
    assert "0.8.0 48 50 85 % 1 1 min 40 s" in page.text  # the same in a table


def test_a_first_version_has_nothing_to_compare_with() -> None:
    page, summary, _ = read_files(make_data(make_manifest(make_row(1, "gear")), make_rejects()))
    assert (summary["changes"], summary["drift"], len(summary["history"])) == (None, [], 1)
    assert "First version." in page.text
    assert "so there is no comparison" in page.text
    assert "Nothing failed." in page.text


def test_of_many_concepts_the_lossiest_are_shown_and_all_are_in_the_summary() -> None:
    names = [f"thing {number}" for number in range(60)]
    recipe = make_recipe().model_copy(update={"concepts": tuple(Concept(name=name, wanted=1) for name in names)})
    lost = [make_row(k, names[k], class_id=k, reason="blank") for k in range(40, 50)]
    kept = [make_row(100 + k, name, class_id=k) for k, name in enumerate(names)]
    page, summary, _ = read_files(make_data(make_manifest(*kept), make_rejects(*lost), recipe))
    assert len(summary["losses"]) == 60
    assert (
        "The table shows the 24 concepts with the lowest share of passed images; summary.json has all 60." in page.text
    )
    heat = page.text[page.text.index("Where images are lost") : page.text.index("Nothing failed.")]
    assert all(names[k] in heat for k in range(40, 50))


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_body_never_scrolls_sideways(page: Path, browser: Chromium, width: int, dark: bool) -> None:
    browser.open(page, width=width, height=844, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.complaints() == []


@needs_browser
def test_the_first_screen_of_a_telephone_holds_the_verdict_and_the_numbers(tmp_path: Path, browser: Chromium) -> None:
    path = tmp_path / "index.html"
    path.write_bytes(draw_report(make_report(), TEMPLATES)["index.html"])
    browser.open(path, width=390, height=844)
    for name in (".verdict", ".numbers div"):
        assert browser.evaluate(f"document.querySelector('{name}').getBoundingClientRect().bottom") <= 844
    assert browser.evaluate("document.querySelector('.verdict').getBoundingClientRect().left") >= 8


@needs_browser
def test_names_of_partitions_break_between_words(page: Path, browser: Chromium) -> None:
    browser.open(page, width=390, height=844)
    cell = "getComputedStyle(document.querySelector('#costs th.label'))"
    assert browser.evaluate(f"{cell}.overflowWrap") == "break-word"
    assert browser.evaluate("document.querySelector('#costs th.label').offsetWidth") >= 150


@needs_browser
def test_what_comes_from_outside_is_shown_and_never_run(page: Path, browser: Chromium) -> None:
    browser.open(page)
    assert browser.evaluate("document.scripts.length") == 1
    assert browser.evaluate("document.querySelectorAll('[onerror]').length") == 0
    for section in ("changes", "failures", "drift", "history", "costs"):
        shown = browser.evaluate(f"document.getElementById('{section}').textContent")
        assert HOSTILE in " ".join(shown.split()), section


@needs_browser
def test_findings_lead_to_their_sections(page: Path, browser: Chromium) -> None:
    browser.open(page)
    anchors = browser.evaluate("[...document.querySelectorAll('.verdict a')].map((a) => a.getAttribute('href'))")
    assert {"#concepts", "#failures", "#losses", "#drift", "#history", "#changes"} <= set(anchors)
    assert browser.evaluate(
        "[...document.querySelectorAll('.verdict a')].every((a) => document.querySelector(a.getAttribute('href')))"
    )
