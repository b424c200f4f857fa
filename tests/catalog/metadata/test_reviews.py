"""Decisions of persons: kept, merged, replaced, forgotten, and refused where the file is damaged."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tailforge.catalog.metadata.reviews import forget_decision, list_reviews, read_decisions, record_decision
from tailforge.catalog.store import Store
from tailforge.schemas.errors import StoreAccessError
from tailforge.schemas.review import Decision, Review
from tailforge.schemas.tables import REVIEWS
from tests.support.repository import ROOT

TIME = "2026-11-28T10:00:00+00:00"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path), create=True)


def make(number: int, decision: str = "reject", **more: Any) -> Decision:
    known = {"sample_id": f"{number:016x}", "image": "0" * 64, "decision": decision, "decided_at": TIME}
    return Decision.model_validate(known | more)


def test_the_last_word_on_a_sample_counts_until_it_is_forgotten(store: Store, tmp_path: Path) -> None:
    assert read_decisions(store, "tiny") == {}
    record_decision(store, "tiny", make(2, reason="cut off", reviewer="Ada"))
    record_decision(store, "tiny", make(1))
    record_decision(store, "tiny", make(2, "accept"))
    assert read_decisions(store, "tiny") == {f"{1:016x}": make(1), f"{2:016x}": make(2, "accept")}
    assert read_decisions(store, "other") == {}
    assert pq.read_schema(tmp_path / "reviews" / "tiny.parquet").equals(REVIEWS)
    forget_decision(store, "tiny", f"{2:016x}")
    forget_decision(store, "tiny", f"{3:016x}")
    assert list(read_decisions(store, "tiny")) == [f"{1:016x}"]


def test_who_when_and_why_decide_nothing(store: Store) -> None:
    record_decision(store, "tiny", make(1, reason="blurred", reviewer="Ada"))
    once = list_reviews(store, "tiny")
    record_decision(store, "tiny", make(1, decided_at="2027-01-01T00:00:00+00:00", reviewer="Bea"))
    assert list_reviews(store, "tiny") == once == (Review(sample_id=f"{1:016x}", image="0" * 64, decision="reject"),)


def test_writers_side_by_side_lose_nothing(store: Store, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from tailforge.catalog.metadata.reviews import record_decision\n"
        "from tailforge.catalog.store import Store\n"
        "from tailforge.schemas.review import Decision\n"
        "for number in range(100, 120):\n"
        "    decision = Decision(sample_id=f'{number:016x}', image='', decision='accept', decided_at='')\n"
        "    record_decision(Store.open(sys.argv[1]), 'tiny', decision)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: record_decision(store, "tiny", make(number)), range(40)))
    assert other.wait(timeout=60) == 0
    assert list(read_decisions(store, "tiny")) == [f"{number:016x}" for number in [*range(40), *range(100, 120)]]
    assert sorted(path.name for path in (tmp_path / "reviews").iterdir()) == ["tiny.lock", "tiny.parquet"]


def test_a_damaged_file_is_refused(store: Store, tmp_path: Path) -> None:
    record_decision(store, "tiny", make(1))
    path = tmp_path / "reviews" / "tiny.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreAccessError, match="cannot be read"):
        record_decision(store, "tiny", make(2))
    row = make(1).model_dump() | {"decision": "perhaps"}
    pq.write_table(REVIEWS.empty_table().from_pylist([row], REVIEWS), path)
    with pytest.raises(StoreAccessError, match="remove it to build without them"):
        list_reviews(store, "tiny")
