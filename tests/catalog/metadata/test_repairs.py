"""Records of repairs: kept, replaced, forgotten, and refused where they are damaged."""

from pathlib import Path

import pytest

from tailforge.catalog.metadata.repairs import forget_repair, list_repairs, record_repair
from tailforge.catalog.store import Store
from tailforge.schemas.errors import NotFoundError, StoreAccessError
from tailforge.schemas.explanation import RepairRecord
from tailforge.schemas.receipts import Receipt


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path), create=True)


def make(store: Store, sample_id: str = "b" * 16) -> RepairRecord:
    uri = f"artifacts/repairs/{sample_id}/part-00000.parquet"
    store.write_bytes(uri, b"image")
    receipt = Receipt(
        stage="repairs", fingerprint="0" * 32, part=0, label="repair", uri=uri, sha256="0" * 64, rows=1, bytes=5
    )
    return RepairRecord(dataset="tiny", parent="a" * 16, sample_id=sample_id, parent_image="0" * 64, samples=receipt)


def test_a_repair_is_kept_until_it_is_replaced_or_forgotten(store: Store) -> None:
    assert list_repairs(store, "tiny") == ()
    first, second = make(store), make(store, "c" * 16)
    record_repair(store, first)
    assert list_repairs(store, "tiny") == (first,)
    assert list_repairs(store, "other") == ()
    record_repair(store, second)
    assert list_repairs(store, "tiny") == (second,)
    forget_repair(store, "tiny", "a" * 16)
    assert list_repairs(store, "tiny") == ()
    with pytest.raises(NotFoundError, match="nothing to undo"):
        forget_repair(store, "tiny", "a" * 16)


def test_a_repair_whose_image_is_gone_or_cut_is_refused(store: Store, tmp_path: Path) -> None:
    repair = make(store)
    record_repair(store, repair)
    image = tmp_path / repair.samples.uri
    image.write_bytes(b"im")
    with pytest.raises(StoreAccessError, match="has another size; repair the sample again"):
        list_repairs(store, "tiny")
    image.unlink()
    with pytest.raises(StoreAccessError, match="its image or its page is gone"):
        list_repairs(store, "tiny")


def test_a_damaged_record_is_refused(store: Store, tmp_path: Path) -> None:
    record_repair(store, make(store))
    (tmp_path / "repairs" / "tiny" / f"{'a' * 16}.json").write_text("{")
    with pytest.raises(StoreAccessError, match="it cannot be read"):
        list_repairs(store, "tiny")
