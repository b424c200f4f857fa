"""The page of a review in a real browser (Chromium): keys decide, filters filter, and what is shown is never run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.metadata.reviews import read_decisions
from tailforge.catalog.store import Store
from tailforge.flows.samples.review_server import ReviewServer
from tailforge.tasks.report.review import REASONS
from tests.support.chromium import Chromium, needs_browser
from tests.support.served_review import HOSTILE, publish, serve

pytestmark = needs_browser


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return publish(tmp_path_factory.mktemp("review"))


@pytest.fixture
def server(store: Store) -> Iterator[ReviewServer]:
    with serve(store, reviewer=HOSTILE) as server:
        yield server
    store.remove("reviews")


def load(browser: Chromium, server: ReviewServer, **window: Any) -> None:
    browser.open(server.address, **window)
    browser.evaluate(
        "new Promise((done) => {"
        " const look = () => document.body.dataset.ready ? done() : setTimeout(look, 10); look(); })"
    )


def text(browser: Chromium, name: str) -> str:
    return str(browser.evaluate(f"document.getElementById('{name}').textContent"))


def choose(browser: Chromium, name: str, value: str) -> None:
    browser.evaluate(
        f"(() => {{ const field = document.getElementById('{name}'); field.value = '{value}';"
        " field.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )


def kept(browser: Chromium, store: Store) -> dict[str, tuple[str, str]]:
    """Decision and reason by sample, when all that the page sent has arrived."""
    browser.evaluate("queue")
    return {name: (each.decision, each.reason) for name, each in read_decisions(store, "parts").items()}


def ids(browser: Chromium) -> list[str]:
    return list(browser.evaluate("shown.map(each => each.id)"))


def test_keys_decide_and_lead_on(browser: Chromium, server: ReviewServer, store: Store) -> None:
    load(browser, server)
    order = ids(browser)
    assert text(browser, "id") == order[0]
    for key in ("a", "r", "3", "ArrowRight", "ArrowLeft", "ArrowRight", "a"):
        browser.press(key)
    assert kept(browser, store) == {
        order[0]: ("accept", ""),
        order[1]: ("reject", ""),
        order[2]: ("reject", REASONS[2]),
        order[4]: ("accept", ""),
    }
    assert text(browser, "id") == order[5]
    assert text(browser, "told").startswith(f"4 of {len(order)} samples decided")
    assert browser.evaluate("document.getElementById('bar').value") == 4
    assert browser.complaints() == []


def test_undo_brings_back_what_was_decided_before(browser: Chromium, server: ReviewServer, store: Store) -> None:
    load(browser, server)
    first = ids(browser)[0]
    for key in ("1", "ArrowLeft", "a"):
        browser.press(key)
    assert kept(browser, store) == {first: ("accept", "")}
    browser.press("u")
    assert kept(browser, store) == {first: ("reject", REASONS[0])}
    assert text(browser, "id") == first
    browser.press("u")
    assert kept(browser, store) == {}
    assert text(browser, "decided") == "not decided"
    assert browser.evaluate("document.getElementById('undo').disabled") is True
    browser.press("u")
    assert kept(browser, store) == {}


def test_undo_forgets_what_was_decided_on_an_earlier_page(
    browser: Chromium, server: ReviewServer, store: Store
) -> None:
    load(browser, server)
    browser.press("r")
    assert len(kept(browser, store)) == 1
    load(browser, server)
    browser.press("u")
    assert kept(browser, store) == {}


def test_words_of_ones_own_are_kept_and_keys_are_letters_while_they_are_written(
    browser: Chromium, server: ReviewServer, store: Store
) -> None:
    load(browser, server)
    first = ids(browser)[0]
    browser.evaluate("document.getElementById('note').focus()")
    for letter in "rau1":
        browser.call("Input.dispatchKeyEvent", type="keyDown", key=letter, text=letter)
        browser.call("Input.dispatchKeyEvent", type="keyUp", key=letter)
    assert kept(browser, store) == {}
    assert browser.evaluate("document.getElementById('note').value") == "rau1"
    browser.press("Enter")
    assert kept(browser, store) == {first: ("reject", "rau1")}
    assert browser.evaluate("document.getElementById('note').value") == ""
    browser.press("a")
    assert len(kept(browser, store)) == 2


def test_filters_choose_what_is_shown(browser: Chromium, server: ReviewServer) -> None:
    load(browser, server)
    samples = browser.evaluate("samples")

    def expect(**wanted: str) -> None:
        assert ids(browser) == [s["id"] for s in samples if all(s[name] == value for name, value in wanted.items())]
        assert ids(browser)

    choose(browser, "concept", "hook")
    expect(concept="hook")
    choose(browser, "split", "test")
    expect(concept="hook", split="test")
    choose(browser, "split", "")
    choose(browser, "state", "rejected")
    expect(concept="hook", state="rejected")
    choose(browser, "concept", "")
    choose(browser, "state", "")
    choose(browser, "reason", "surplus")
    expect(reason="surplus")
    assert text(browser, "was") == "left out by the build: surplus"
    choose(browser, "concept", "hook")
    assert ids(browser) == []
    assert browser.evaluate("document.getElementById('empty').offsetHeight > 0") is True
    browser.press("a")  # nothing to decide on
    choose(browser, "concept", "")
    choose(browser, "reason", "")
    choose(browser, "decision", "accept")
    assert ids(browser) == []


def test_a_range_of_scores_chooses_and_orders(browser: Chromium, server: ReviewServer) -> None:
    for place, row in enumerate(server.reviewed.rows.values()):
        row["sharpness"] = float(place * 7 % 26)  # type: ignore[index]
    load(browser, server)
    choose(browser, "score", "sharpness")
    choose(browser, "low", "5")
    choose(browser, "high", "20.5")
    assert sorted(browser.evaluate("shown.map(each => each.scores.sharpness)")) == list(range(5, 21))
    choose(browser, "order", "falling")
    assert browser.evaluate("shown.map(each => each.scores.sharpness)") == list(range(20, 4, -1))
    choose(browser, "order", "rising")
    assert browser.evaluate("shown.map(each => each.scores.sharpness)") == list(range(5, 21))


def test_a_filter_by_decision_shows_what_is_left(browser: Chromium, server: ReviewServer, store: Store) -> None:
    load(browser, server)
    order = ids(browser)
    choose(browser, "decision", "none")
    browser.press("a")
    browser.press("r")
    assert text(browser, "id") == order[2]  # what was decided stays in place until filters change
    assert len(kept(browser, store)) == 2
    load(browser, server)
    choose(browser, "decision", "none")
    assert ids(browser) == order[2:]
    choose(browser, "decision", "reject")
    assert ids(browser) == order[1:2]


def test_pictures_are_shown_and_the_mask_is_laid_over(browser: Chromium, server: ReviewServer) -> None:
    load(browser, server)
    size = "document.getElementById('{}').decode().then(() => document.getElementById('{}').naturalWidth)"
    assert browser.evaluate(size.format("image", "image")) == 16
    assert browser.evaluate("document.getElementById('mask').offsetHeight") == 0
    browser.press("m")
    assert browser.evaluate(size.format("mask", "mask")) == 256
    box = "JSON.stringify(document.getElementById('{}').getBoundingClientRect())"
    assert browser.evaluate(box.format("image")) == browser.evaluate(box.format("mask"))
    browser.press("m")
    assert browser.evaluate("document.getElementById('mask').offsetHeight") == 0
    urls = [event["params"]["request"]["url"] for event in browser.events if event["method"].endswith("WillBeSent")]
    assert all(url.startswith((server.address, "data:")) for url in urls)
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 800, 1280])
def test_the_page_fits_the_window(browser: Chromium, server: ReviewServer, width: int, dark: bool) -> None:
    load(browser, server, width=width, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.getElementById('accept').offsetHeight") >= 44
    assert browser.evaluate("document.getElementById('reject').getBoundingClientRect().bottom") <= 900


def test_buttons_do_what_keys_do(browser: Chromium, server: ReviewServer, store: Store) -> None:
    load(browser, server, width=390)
    order = ids(browser)
    for name in ("accept", "reject", "next", "back", "undo"):
        browser.evaluate(f"document.getElementById('{name}').click()")
    browser.evaluate("document.querySelectorAll('#reasons button')[8].click()")
    assert kept(browser, store) == {order[0]: ("accept", ""), order[1]: ("reject", REASONS[8])}


def test_what_it_shows_is_never_run(browser: Chromium, server: ReviewServer, store: Store) -> None:
    load(browser, server)
    assert HOSTILE in text(browser, "caption")
    browser.press("r")
    kept(browser, store)
    load(browser, server)  # the reviewer's name is hostile too
    assert HOSTILE in text(browser, "decided")
    browser.evaluate(
        "document.body.append(document.createRange().createContextualFragment('<script>hacked=1</script>'))"
    )
    assert browser.evaluate("typeof hacked") == "undefined"


def test_a_page_of_another_origin_reads_and_decides_nothing(
    browser: Chromium, server: ReviewServer, store: Store, tmp_path: Path
) -> None:
    page = tmp_path / "evil.html"
    page.write_text("<title>evil</title>")
    browser.open(page)
    body = f'{{"sample_id": "{next(iter(server.reviewed.rows))}", "decision": "reject"}}'
    for options in ("{}", f"{{method: 'POST', body: '{body}', headers: {{'Content-Type': 'application/json'}}}}",
                    f"{{method: 'POST', mode: 'no-cors', body: '{body}'}}"):  # fmt: skip
        for path in ("samples", "decisions"):
            told = browser.evaluate(
                f"fetch('{server.address}{path}', {options}).then(r => r.text()).then(t => t, () => 'refused')"
            )
            assert told in ("refused", "")
    assert read_decisions(store, "parts") == {}


def test_a_decision_that_is_not_kept_is_told_and_taken_back(
    browser: Chromium, server: ReviewServer, store: Store
) -> None:
    load(browser, server)
    browser.press("a")
    before = kept(browser, store)
    server.token = "another"  # as after a restart
    for key in ("r", "ArrowLeft", "ArrowLeft", "r"):
        browser.press(key)
    assert kept(browser, store) == before
    assert "still running?" in text(browser, "fault")
    assert text(browser, "told").startswith("1 of ")
    browser.press("ArrowLeft")
    assert text(browser, "decided").startswith("accepted")
