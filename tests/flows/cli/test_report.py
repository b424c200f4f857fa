"""`tailforge report`: where the page is, and the facts for programs."""

import json
from pathlib import Path

import pytest

from tailforge.catalog.store import Store
from tests.flows.conftest import Command
from tests.support.published_tables import publish_tables
from tests.support.report_tables import make_manifest, make_recipe, make_rejects, make_row

PAGE = "datasets/tiny/1.0.0/report/index.html"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a version of dataset `tiny` whose report has a page alone."""
    store = Store.open(str(tmp_path / "store"), create=True)
    publish_tables(store, make_recipe(), "1.0.0", make_manifest(make_row(1, "gear")), make_rejects())
    store.write_bytes(PAGE, b"<html>")
    return store


def test_no_address_is_told_where_no_page_is(store: Store, command: Command) -> None:
    (Path(store.uri) / PAGE).unlink()
    code, out, err = command("report", "tiny", "--store", store.uri)
    assert (code, out) == (2, "")
    assert f"{store.uri}/{PAGE} is missing" in err


def test_json_holds_the_facts_beside_the_page(store: Store, command: Command) -> None:
    store.write_bytes("datasets/tiny/1.0.0/report/summary.json", b'{"verdict": {"level": "complete"}}')
    code, printed, err = command("report", "tiny", "--store", store.uri, "--json")
    assert code == 0, err
    page = f"{store.uri}/{PAGE}"
    assert json.loads(printed) == {"report": page, "summary": {"verdict": {"level": "complete"}}}
    assert command("report", "tiny@1.0.0", "--store", store.uri)[1] == page + "\n"


def test_a_version_of_before_summaries_has_none(store: Store, command: Command) -> None:
    assert json.loads(command("report", "tiny", "--store", store.uri, "--json")[1])["summary"] is None


def test_a_damaged_summary_is_an_error_that_says_so(store: Store, command: Command) -> None:
    store.write_bytes("datasets/tiny/1.0.0/report/summary.json", b"{")
    code, _, err = command("report", "tiny", "--store", store.uri, "--json")
    assert code == 2
    assert "report/summary.json is damaged" in err
    assert "tailforge verify tiny" in err
