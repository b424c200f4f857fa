"""The stage contract: equal work has one address, is done once, and its receipt marks completion."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.catalog.store import Store
from tailforge.schemas.errors import DamagedArtifactError
from tailforge.schemas.jobs import SampleSpec, Slot
from tailforge.tasks.artifacts.contract import (
    Address,
    ArtifactKind,
    Made,
    digest,
    digest_samples,
    find_receipt,
    read_table,
    run_once,
)

SCHEMA = pa.schema([("n", pa.int32()), ("status", pa.string()), ("error", pa.string())])
STAGE = ArtifactKind(name="numbers", version="numbers.1", schema=SCHEMA)


def address(**changes: object) -> Address:
    fields: dict[str, object] = {"stage": STAGE, "part": 3, "label": "x", "settings": {"a": 1}, "inputs": {"p": "d"}}
    return Address(**(fields | changes))  # type: ignore[arg-type]


def produce() -> Made:
    rows = [{"n": 1, "status": "ok", "error": None}, {"n": 2, "status": "failed", "error": "image is blank"}]
    return Made(pa.Table.from_pylist(rows, SCHEMA), details={"k": 1})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path), create=True)


def test_work_is_done_once(store: Store) -> None:
    calls = []
    first = run_once(store, address(), lambda: calls.append(1) or produce())  # type: ignore[func-returns-value]
    second = run_once(store, address(), lambda: calls.append(1) or produce())  # type: ignore[func-returns-value]
    assert first == second
    assert len(calls) == 1
    assert first.counts == {"status:ok": 1, "status:failed": 1, "error:image is blank": 1}
    assert first.details == {"k": 1}
    assert read_table(store, first).num_rows == 2


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"a": 2}},
        {"inputs": {"p": "e"}},
        {"models": {"generator": "x"}},
        {"stage": ArtifactKind(name="numbers", version="numbers.2", schema=SCHEMA)},
    ],
)
def test_whatever_decides_the_content_changes_the_address(change: dict[str, object]) -> None:
    assert address(**change).uri != address().uri


def test_a_label_does_not_change_the_address() -> None:
    assert address(label="y").uri == address().uri


def test_file_without_receipt_is_not_finished(store: Store) -> None:
    run_once(store, address(), produce)
    store.remove(address().receipt_uri)
    assert find_receipt(store, address()) is None


@pytest.mark.parametrize("damage", ["gone", "shorter", "receipt"])
def test_damaged_artifacts_are_misses(store: Store, damage: str) -> None:
    run_once(store, address(), produce)
    if damage == "gone":
        store.remove(address().uri)
    elif damage == "shorter":
        store.write_bytes(address().uri, b"PAR1")
    else:
        store.write_bytes(address().receipt_uri, b'{"stage": "num')
    assert find_receipt(store, address()) is None
    assert run_once(store, address(), produce).rows == 2


def test_failed_work_leaves_no_receipt(store: Store) -> None:
    def fail() -> Made:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        run_once(store, address(), fail)
    assert store.names("artifacts") == []


@pytest.mark.parametrize("damage", ["gone", "one bit"])
def test_a_damaged_artifact_is_noticed_and_made_again(store: Store, damage: str) -> None:
    receipt = run_once(store, address(), produce)
    if damage == "gone":
        store.remove(receipt.uri)
    else:
        data = bytearray(store.read(receipt.uri))
        data[40] ^= 1  # inside the first column's page
        store.write_bytes(receipt.uri, bytes(data))
    with pytest.raises(DamagedArtifactError, match="run the same command again"):
        read_table(store, receipt)
    assert find_receipt(store, address()) is None
    assert read_table(store, run_once(store, address(), produce)).num_rows == 2


def test_every_flipped_bit_of_an_artifact_is_noticed_or_harmless(store: Store) -> None:
    """Checksums of pages do not cover the footer, in which a flip can rename a column or move its data."""
    receipt = run_once(store, address(), produce)
    data, kept, written = store.read(receipt.uri), store.read(address().receipt_uri), read_table(store, receipt)
    noticed = 0
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        store.write_bytes(receipt.uri, bytes(damaged))
        try:
            assert read_table(store, receipt).equals(written, check_metadata=True)
        except DamagedArtifactError:
            noticed += 1
            store.write_bytes(address().receipt_uri, kept)
    assert noticed > receipt.footer.bytes  # type: ignore[union-attr]


def test_two_writers_leave_one_equal_artifact(tmp_path: Path) -> None:
    one, two = Store.open(str(tmp_path / "1"), create=True), Store.open(str(tmp_path / "2"), create=True)
    run_once(one, address(), produce)
    run_once(two, address(), produce)
    assert one.read(address().uri) == two.read(address().uri)


@given(
    text=st.text(st.characters(exclude_categories=("Cs",))),
    numbers=st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**31), st.integers(0, 2**31)),
)
def test_samples_are_digested_as_any_value(text: str, numbers: tuple[int, int, int]) -> None:
    seed, index, replica = numbers
    slots = (Slot(name=text, value="gear", start=0, end=index), Slot(name="a", value=text, start=1, end=2))
    one = SampleSpec(sample_id=text, seed=seed, prompt_index=index, replica=replica, prompt=text, slots=slots)
    for samples in ((), (one,), (one, one.model_copy(update={"slots": ()}))):
        assert digest_samples(samples) == digest([sample.model_dump(mode="json") for sample in samples])
