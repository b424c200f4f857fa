"""Shard plans keep their limits and mix evenly; tars are plain, reproducible USTAR with true offsets and digests."""

import hashlib
import io
import tarfile
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.schemas.tables import MEMBERS
from tailforge.tasks.methods.packing.shards import CANDIDATES, RECORD, TarPacker, plan_shards, shard_name, tar_bytes

FIELDS = ("cls", "json", "png")
KEYS = st.text("0123456789abcdef", min_size=16, max_size=16)
PROPERTY = settings(max_examples=30)
SAMPLES = st.dictionaries(KEYS, st.tuples(*(st.binary(max_size=1500) for _ in FIELDS)), max_size=8)


def pack(samples: dict[str, tuple[bytes, ...]]) -> tuple[bytes, TarPacker]:
    out = io.BytesIO()
    with TarPacker(out, FIELDS) as packer:
        for key, payloads in samples.items():
            packer.add(key, payloads)
    return out.getvalue(), packer


def make_candidates(counts: dict[str, int], size: int = 2000, split: str = "train") -> pa.Table:
    rows = [
        {
            "sample_id": hashlib.sha256(f"{concept}{i}".encode()).hexdigest()[:16],
            "concept": concept,
            "split": split,
            "partition": number * 100 + i // 8,
            "row": i % 8,
            "augmented_row": -1,
            "tar_bytes": size,
        }
        for number, (concept, count) in enumerate(counts.items())
        for i in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=CANDIDATES)


@PROPERTY
@given(SAMPLES)
def test_tar_equals_what_tarfile_writes(samples: dict[str, tuple[bytes, ...]]) -> None:
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, payloads in samples.items():
            for field, data in zip(FIELDS, payloads, strict=True):
                member = tarfile.TarInfo(f"{key}.{field}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    data, packer = pack(samples)
    assert data == expected.getvalue()
    assert (packer.size, packer.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@PROPERTY
@given(SAMPLES)
def test_members_name_offset_size_and_digest(samples: dict[str, tuple[bytes, ...]]) -> None:
    data, packer = pack(samples)
    members = packer.members()
    assert members.type == MEMBERS
    for payloads, found in zip(samples.values(), members.to_pylist(), strict=True):
        for field, payload, member in zip(FIELDS, payloads, found, strict=True):
            assert member["field"] == field
            assert data[member["offset"] : member["offset"] + member["size"]] == payload
            assert member["sha256"] == hashlib.sha256(payload).digest()


def test_many_blocks_are_written_in_order() -> None:
    samples = {f"{i:016x}": (b"%d" % i, b"{}", bytes([i % 251]) * 50_000) for i in range(300)}
    data, packer = pack(samples)
    assert packer.sha256 == hashlib.sha256(data).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [m.name for m in tar.getmembers()] == [f"{key}.{field}" for key in samples for field in FIELDS]


def test_a_failing_write_is_raised() -> None:
    class FullDisk(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), TarPacker(FullDisk(), FIELDS) as packer:
        packer.add("0" * 16, (b"", b"", b""))


@pytest.mark.parametrize("fields", [("png", "json"), ("png", "png")])
def test_fields_must_be_sorted_and_distinct(fields: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="sorted and distinct"):
        TarPacker(io.BytesIO(), fields)


def test_a_name_that_ustar_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 100"), TarPacker(io.BytesIO(), FIELDS) as packer:
        packer.add("k" * 98, (b"", b"", b""))


@PROPERTY
@given(
    st.dictionaries(st.sampled_from(["gear", "hook", "ring"]), st.integers(1, 40), min_size=1),
    st.integers(1, 50),
    st.integers(3000, 60_000),
)
def test_every_sample_has_one_place_within_the_limits(counts: dict[str, int], samples: int, size: int) -> None:
    candidates = make_candidates(counts)
    plan = plan_shards(candidates, samples, size)
    assert sorted(plan["sample_id"].to_pylist()) == sorted(candidates["sample_id"].to_pylist())
    shards = Counter(plan["shard"].to_pylist())
    assert list(shards) == list(range(len(shards)))
    assert max(shards.values()) <= samples
    assert all(count == 1 or count * 2000 + RECORD <= size for count in shards.values())


@PROPERTY
@given(st.randoms())
def test_the_plan_does_not_depend_on_the_order_of_candidates(random) -> None:  # type: ignore[no-untyped-def]
    candidates = make_candidates({"gear": 30, "hook": 5})
    order = list(range(35))
    random.shuffle(order)
    assert plan_shards(candidates.take(pa.array(order)), 10, 10**6).equals(plan_shards(candidates, 10, 10**6))


def test_concepts_are_mixed_in_their_proportions() -> None:
    plan = plan_shards(make_candidates({"gear": 900, "hook": 90, "ring": 10}), 100, 10**9)
    shards = plan["shard"].to_pylist()
    for shard in range(10):
        found = Counter(c for c, s in zip(plan["concept"].to_pylist(), shards, strict=True) if s == shard)
        assert abs(found["gear"] - 90) <= 2
        assert abs(found["hook"] - 9) <= 2
        assert found["ring"] <= 2


def test_a_shard_reads_a_contiguous_range_of_every_concept() -> None:
    plan = plan_shards(make_candidates({"gear": 320, "hook": 64}), 48, 10**9)
    for shard in range(8):
        rows = [row for row in plan.to_pylist() if row["shard"] == shard]
        for concept in ("gear", "hook"):
            places = sorted((row["partition"] % 100) * 8 + row["row"] for row in rows if row["concept"] == concept)
            assert places == list(range(places[0], places[0] + len(places)))


def test_splits_never_share_a_shard() -> None:
    candidates = pa.concat_tables([make_candidates({"gear": 7}), make_candidates({"hook": 5}, split="test")])
    plan = plan_shards(candidates, 4, 10**6).to_pylist()
    found = Counter((row["split"], row["shard"]) for row in plan)
    assert found == {("test", 0): 4, ("test", 1): 1, ("train", 0): 4, ("train", 1): 3}


def test_an_empty_plan() -> None:
    assert plan_shards(CANDIDATES.empty_table(), 4, 10**6).num_rows == 0


def test_sizes_and_names() -> None:
    assert [tar_bytes(size) for size in (0, 1, 512, 513)] == [512, 1024, 1024, 1536]
    assert shard_name("train", 12) == "train-000012.tar"
