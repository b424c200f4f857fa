"""The page of an explanation in a real browser: what is switched off leaves the picture, and nothing else happens."""

from pathlib import Path

import numpy as np
import pytest

from tailforge.schemas.explanation import ExplainSettings
from tailforge.tasks.report.explanation import ExplanationPage, Mended, draw_explanation
from tailforge.tasks.report.template_files import read_template
from tests.support.chromium import Chromium, needs_browser

TEMPLATE = read_template("explanation.html.j2")
SIDE = 12


def fabricate(prompt: str = "a photo of a gear", mended: Mended | None = None) -> ExplanationPage:
    """A grey image of 2 x 2 patches; component k draws patch k, by 0.2 + 0.1 k of the range."""
    deleted = np.zeros((2, 3, SIDE, SIDE), np.float16)
    deleted[0, :, :6, :6], deleted[1, :, :6, 6:] = 0.2, 0.3
    region = np.zeros((SIDE, SIDE), bool)
    region[:6, 6:] = True
    row = {
        "strength": 3.0,
        "residual": 1e-3,
        "reported": True,
        "energy": 1.0,
        "containment": 0.99,
        "region_energy": 1.0,
    }
    rows = [
        {**row, "component": k, "patches": [k], "shown": k, "real_patches": [k], "region_share": float(k == 1),
         "region_rank": 1 if k == 1 else None}
        for k in range(2)
    ]  # fmt: skip
    image = np.full((SIDE, SIDE, 3), 150, np.uint8)
    return ExplanationPage(
        sample_id="0" * 15 + "1",
        dataset="tiny@1.0.0",
        prompt=prompt,
        settings=ExplainSettings(grid=2),
        layer="decoder.up_blocks.1",
        region="box 6,0,12,6",
        rows=[*rows, {**dict.fromkeys(rows[0]), "component": 2, "patches": [0, 1]}],
        arrays={"image": image, "baseline": image // 2, "deleted": deleted, "region": region},
        summary={
            "players": [0, 1], "components": 3, "reported": 3, "salient": 2, "residual": 1e-3, "rest_share": 0.2,
            "truncated_share": 0.1,
        },
        mended=mended,
    )  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "explanation.html"
    file.write_text(draw_explanation(fabricate(), TEMPLATE))
    return file


def level(browser: Chromium, x: int, y: int) -> int:
    """The red value of the drawn picture in the middle of pixel (x, y)."""
    zoom = browser.evaluate("zoom")
    at = f"{(x + 0.5) * zoom}, {(y + 0.5) * zoom}, 1, 1"
    value: int = browser.evaluate(f"document.getElementById('stage').getContext('2d').getImageData({at}).data[0]")
    return value


def wait(browser: Chromium) -> None:
    browser.evaluate(
        "new Promise((done) => {"
        " const look = () => document.body.dataset.ready ? done() : setTimeout(look, 10); look(); })"
    )


@needs_browser
def test_a_component_that_is_switched_off_leaves_the_picture(page: Path, browser: Chromium) -> None:
    browser.open(page)
    wait(browser)
    assert browser.complaints() == []
    assert (level(browser, 2, 2), level(browser, 9, 2), level(browser, 2, 9)) == (150, 150, 150)
    # The first of the list is the one behind the region.
    browser.evaluate("document.querySelectorAll('.list input')[0].click()")
    assert level(browser, 9, 2) == pytest.approx(150 - 0.3 * 127.5, abs=1)
    assert (level(browser, 2, 2), level(browser, 2, 9)) == (150, 150)
    browser.evaluate("document.getElementById('none').click()")
    assert level(browser, 2, 2) == pytest.approx(150 - 0.2 * 127.5, abs=1)
    browser.evaluate("document.getElementById('region').click()")
    assert (level(browser, 2, 2), level(browser, 9, 2)) == (150, pytest.approx(150 - 0.3 * 127.5, abs=1))
    browser.evaluate("document.getElementById('all').click()")
    assert level(browser, 9, 2) == 150
    assert browser.evaluate("document.getElementById('told').textContent") == "0 of 2 switched off"
    urls = [event["params"]["request"]["url"] for event in browser.events if event["method"].endswith("WillBeSent")]
    assert {url.split(":")[0] for url in urls} <= {"file", "data"}


@needs_browser
@pytest.mark.parametrize("width", [320, 800, 1280])
def test_the_page_fits_the_window(page: Path, browser: Chromium, width: int) -> None:
    browser.open(page, width=width)
    wait(browser)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


@needs_browser
def test_what_it_shows_is_never_run(tmp_path: Path, browser: Chromium) -> None:
    file = tmp_path / "evil.html"
    file.write_text(draw_explanation(fabricate("</script><script>document.title = 'run'</script>"), TEMPLATE))
    browser.open(file)
    wait(browser)
    assert browser.evaluate("document.title").startswith("0000")


def test_equal_explanations_are_equal_pages_and_a_repair_is_told() -> None:
    assert draw_explanation(fabricate(), TEMPLATE) == draw_explanation(fabricate(), TEMPLATE)
    told = {
        "route": "inpaint", "score": "artifacts", "before": 2.0, "after": 1.0, "psnr_outside": None,
        "attempts": [{"route": "inpaint", "score": 1.0, "psnr_outside": None, "accepted": True}],
    }  # fmt: skip
    text = draw_explanation(fabricate(mended=Mended(np.zeros((SIDE, SIDE, 3), np.uint8), told)), TEMPLATE)
    assert "drawing the region again (inpainting)" in text
    assert "nothing changed" in text
    unmended = {**told, "route": "none", "attempts": []}
    text = draw_explanation(fabricate(mended=Mended(np.zeros((SIDE, SIDE, 3), np.uint8), unmended)), TEMPLATE)
    assert "No attempt passed" in text
