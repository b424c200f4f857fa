"""The page about photographs: what it tells, that it names nothing outside, and that it fits every screen."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image

from tailforge.tasks.report.photographs import (
    HEIGHT,
    WIDTH,
    ClassRow,
    PairRow,
    PhotographsPage,
    Picture,
    draw_photographs,
    draw_tail,
)
from tests.support.chromium import Chromium, needs_browser

HOSTILE = '<img src=x onerror="alert(1)">'


def picture(name: str, chosen: bool = False) -> Picture:
    out = io.BytesIO()
    Image.new("RGB", (24, 40), "teal").save(out, "WEBP")
    return Picture(name, out.getvalue(), chosen)


def make_page(classes: int = 12) -> PhotographsPage:
    names = [f"a class of machine parts {number}" for number in range(classes - 1)] + [HOSTILE]
    counts = [1000 // (number + 1) for number in range(classes)]
    pictures = tuple(picture(f"train/{number}.jpg", number < 3) for number in range(8))
    twin = (picture("train/a-very-long-name-of-a-photograph-that-has-no-space.jpg"), names[0], "train")
    return PhotographsPage(
        title="parts",
        origin="photographs/of/parts",
        photographs=sum(counts),
        target=200,
        rule="the count of the class in the middle",
        split_rule="The photographs' own splits were kept.",
        findings=(f"leaks: 1 pair: {HOSTILE}",),
        rows=tuple(
            ClassRow(name, name, {"train": count, "test": 3}, max(0, 200 - count), pictures)
            for name, count in zip(names, counts, strict=True)
        ),
        hidden=0,
        bars=tuple((name, count, max(0, 200 - count)) for name, count in zip(names, counts, strict=True)),
        pairs=(PairRow("mirrored twin", ("leak",), (twin, (picture("test/b.jpg"), HOSTILE, "test"))),),
        pair_count=1,
        leak_count=1,
        sizes=(("24 x 40", 900), ("other", 100)),
        facts=(("channels", "grey 1,000"),),
        bounds=(("brightness", "0.1", "0.4", "0.9", "at least 0.05"),),
        commands=("tailforge plan start/recipe.yaml", "tailforge build start/recipe.yaml"),
    )


def test_bars_stand_on_the_axis_and_requests_on_photographs() -> None:
    first, second = draw_tail([("a", 10, 0), ("b", 4, 6)])
    assert (first.y, first.height, first.fill_height) == (0, HEIGHT, 0)
    assert second.y + second.height == HEIGHT
    assert (second.fill_y, second.fill_y + second.fill_height) == (0, second.y)
    assert second.x + second.width < WIDTH
    assert second.title == "b: 4 photographs, 6 requested"


def test_the_page_is_one_file() -> None:
    page = draw_photographs(make_page())
    assert not re.search(r"https?://|<script|<link|url\(", page)
    assert set(re.findall(r'src="([a-z:/]+)', page)) == {"data:image/webp"}
    assert HOSTILE not in page
    assert "&lt;img src=x" in page


@pytest.mark.parametrize("classes", [2, 40, 1000])
def test_any_number_of_classes_is_drawn(classes: int) -> None:
    page = draw_photographs(make_page(classes))
    assert page.count("<g><title>") == classes
    assert ("<text transform" in page) == (classes <= 40)


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_body_never_scrolls_sideways(width: int, dark: bool, tmp_path: Path, browser: Chromium) -> None:
    path = tmp_path / "photographs.html"
    path.write_text(draw_photographs(make_page()), encoding="utf-8")
    browser.open(path, width=width, height=844, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.complaints() == []
    assert browser.evaluate("document.querySelector('.verdict').getBoundingClientRect().left") >= 8
    assert browser.evaluate("[...document.images].filter((each) => each.loading != 'lazy').length") == 0
    anchors = "[...document.querySelectorAll('nav a')].every((a) => document.querySelector(a.getAttribute('href')))"
    assert browser.evaluate(anchors)
