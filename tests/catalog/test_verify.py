"""Every kind of damage to a published version is found, and named by file and member."""

import io
import json
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailforge.catalog.store import Store
from tailforge.catalog.verify import Finding, verify
from tailforge.schemas.errors import NotFoundError, VerificationError
from tests.support.hostile_versions import sign

SHARD = "shards/train-000000.tar"


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Path:
    """Folder of a copy that a test may damage; its store is three levels up."""
    target = tmp_path / "store" / "datasets" / "parts" / "1.0.0"
    shutil.copytree(folder, target)
    return target


def check(folder: Path) -> list[Finding]:
    return verify(Store.open(str(folder.parents[2])), "parts")


def member_rows(folder: Path, shard: str = SHARD) -> list[tuple[str, dict[str, Any]]]:
    """(name, manifest entry) of the members of a shard."""
    rows = pq.ParquetFile(folder / "manifest.parquet").read().to_pylist()
    return [
        (f"{row['sample_id']}.{member['field']}", member)
        for row in rows
        if f"shards/{row['shard']}" == shard
        for member in row["members"]
    ]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def rewrite_tar(path: Path, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]]) -> None:
    """The same tar with other members, written by another library."""
    with tarfile.open(path) as tar:
        members = [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in change(members):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_an_undamaged_version_has_no_findings(published: Store) -> None:
    heard: list[str] = []
    assert verify(published, "parts", on_file=heard.append) == []
    assert SHARD in heard


@pytest.mark.parametrize("field", ["attn.npy", "cls", "json", "png", "seg.png", "txt"])
def test_a_flipped_byte_names_its_member(damaged: Path, field: str) -> None:
    name, member = next(entry for entry in member_rows(damaged) if entry[0].partition(".")[2] == field)
    flip(damaged / SHARD, member["offset"] + member["size"] // 2)
    findings = check(damaged)
    assert any(finding.path == SHARD and not finding.member and "sha256" in finding.problem for finding in findings)
    assert any(finding.member == name and "sha256" in finding.problem for finding in findings)
    assert {finding.member for finding in findings} == {"", name}


def test_a_flipped_byte_in_a_header_names_the_member_and_goes_on(damaged: Path) -> None:
    (_, (second, member), *rest) = member_rows(damaged)
    flip(damaged / SHARD, member["offset"] - 512 + 124)
    findings = check(damaged)
    assert any(finding.member == second and "checksum" in finding.problem for finding in findings)
    assert not {finding.member for finding in findings} & {name for name, _ in rest[6:]}


def test_a_flipped_byte_in_padding_names_the_member_before_it(damaged: Path) -> None:
    name, member = next(entry for entry in member_rows(damaged) if entry[1]["size"] % 512)
    flip(damaged / SHARD, member["offset"] + member["size"])
    assert any(f.member == name and "should be zero" in f.problem for f in check(damaged))


@pytest.mark.parametrize(
    ("place", "data", "part"),
    [
        (345, b"../../evil", "prefix"),
        (156, b"2", "type"),
        (157, b"/etc/passwd", "link"),
        (100, b"0004777", "mode"),
        (136, b"00000000001", "time"),
        (265, b"root", "names of owners"),
        (509, b"x", "padding"),
    ],
)
def test_a_header_that_names_another_file_to_other_programs_is_found(
    damaged: Path, place: int, data: bytes, part: str
) -> None:
    name, member = member_rows(damaged)[3]
    whole = bytearray((damaged / SHARD).read_bytes())
    start = member["offset"] - 512
    whole[start + place : start + place + len(data)] = data
    block = whole[start : start + 512]
    whole[start + 148 : start + 156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32)
    (damaged / SHARD).write_bytes(whole)
    sign(damaged, SHARD)
    assert check(damaged) == [
        Finding(SHARD, name, f"has a header with another {part} than in shards: other programs may see another file")
    ]


def test_a_truncated_shard_names_the_member_that_is_cut_off(damaged: Path) -> None:
    members = member_rows(damaged)
    name, member = next(entry for entry in members[20:] if entry[0].endswith(".png"))
    path = damaged / SHARD
    path.write_bytes(path.read_bytes()[: member["offset"] + 10])
    findings = check(damaged)
    assert any(finding.member == name and "cut off: 10 of" in finding.problem for finding in findings)
    assert any(finding.member == members[-1][0] and "not in the tar" in finding.problem for finding in findings)
    assert any("bytes, dataset.json says" in finding.problem for finding in findings)


def test_a_shard_cut_between_members_is_found(damaged: Path) -> None:
    path = damaged / SHARD
    last, member = member_rows(damaged)[-1]
    path.write_bytes(path.read_bytes()[: member["offset"] - 512])
    findings = check(damaged)
    assert any("without an end mark" in finding.problem for finding in findings)
    assert any(finding.member == last for finding in findings)


@pytest.mark.parametrize("path", [SHARD, "README.md", "manifest.parquet", "rejects.parquet", "report/index.html"])
def test_a_missing_file_is_named(damaged: Path, path: str) -> None:
    (damaged / path).unlink()
    assert any(finding.path == path and finding.problem == "is missing" for finding in check(damaged))


def test_an_extra_file_is_named(damaged: Path) -> None:
    (damaged / "shards" / "train-000099.tar").write_bytes(b"")
    assert check(damaged) == [Finding("shards/train-000099.tar", "", "is not listed in dataset.json")]


def test_members_of_a_sample_that_lie_apart_are_named(damaged: Path) -> None:
    rewrite_tar(damaged / SHARD, lambda members: [*members[1:], members[0]])
    name = member_rows(damaged)[0][0]
    assert any(
        finding.member == name and "is apart from the other members" in finding.problem for finding in check(damaged)
    )


def test_members_in_another_order_are_named(damaged: Path) -> None:
    rewrite_tar(damaged / SHARD, lambda members: [members[1], members[0], *members[2:]])
    name = member_rows(damaged)[1][0]
    findings = check(damaged)
    assert any(finding.member == name and "has the fields" in finding.problem for finding in findings)
    assert any(finding.member == name and "begins at byte" in finding.problem for finding in findings)


def test_samples_in_another_order_are_named(damaged: Path) -> None:
    rewrite_tar(damaged / SHARD, lambda members: [*members[6:], *members[:6]])
    assert any("is in the place of the manifest's sample" in finding.problem for finding in check(damaged))


def test_a_foreign_member_and_a_lost_one_are_named(damaged: Path) -> None:
    rewrite_tar(damaged / SHARD, lambda members: [*members[:-1], ("f" * 16 + ".txt", b"x")])
    found = {(finding.member, finding.problem) for finding in check(damaged)}
    assert ("f" * 16 + ".txt", "is not in the manifest") in found
    assert (member_rows(damaged)[-1][0], "is in the manifest and not in the tar") in found


def test_an_image_that_cannot_be_decoded_is_named(damaged: Path) -> None:
    name, member = next(entry for entry in member_rows(damaged) if entry[0].endswith(".seg.png"))
    flip(damaged / SHARD, member["offset"] + 1)
    assert any(finding.member == name and "cannot be decoded" in finding.problem for finding in check(damaged))


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("caption", "another", "the manifest 'another'"),
        ("class_id", 2, "the manifest '2'"),
        ("width", 17, "the manifest says 17x16"),
        ("split", "test", "counts.by_split"),
        ("concept", "hook", "counts.by_concept"),
    ],
)
def test_a_changed_manifest_is_found(damaged: Path, column: str, value: object, problem: str) -> None:
    path = damaged / "manifest.parquet"
    table = pq.ParquetFile(path).read()
    rows = table.to_pylist()
    victim = next(row for row in rows if row["shard"] == "train-000000.tar" and row["class_id"] == 0)
    victim[column] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    texts = [str(finding) for finding in check(damaged)]
    assert any(text.startswith("manifest.parquet") for text in texts)
    assert any(problem in text for text in texts)


def test_a_changed_offset_names_the_member(damaged: Path) -> None:
    path = damaged / "manifest.parquet"
    table = pq.ParquetFile(path).read()
    rows = table.to_pylist()
    rows[-1]["members"][0]["offset"] += 512
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    name = f"{rows[-1]['sample_id']}.{rows[-1]['members'][0]['field']}"
    assert any(f.member == name and "begins at byte" in f.problem for f in check(damaged))


def test_a_repeated_sample_and_a_broken_table_are_found(damaged: Path) -> None:
    path = damaged / "manifest.parquet"
    table = pq.ParquetFile(path).read()
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    assert any("more than once" in finding.problem for finding in check(damaged))
    path.write_bytes(path.read_bytes()[:-9])
    assert any("cannot be read" in finding.problem for finding in check(damaged))


def test_changed_counts_are_found(damaged: Path) -> None:
    path = damaged / "dataset.json"
    document = json.loads(path.read_text())
    document["counts"]["samples"] += 1
    document["counts"]["rejected"] += 1
    path.write_text(json.dumps(document))
    problems = [finding.problem for finding in check(damaged)]
    assert problems == [
        "counts.samples is 54, the tables hold 53",
        "counts.rejected + surplus is 8, the tables hold 7",
    ]


def test_a_broken_dataset_json_is_an_error(damaged: Path) -> None:
    (damaged / "dataset.json").write_text("{")
    with pytest.raises(VerificationError, match="is damaged"):
        check(damaged)


def test_an_unknown_version_is_an_error(published: Store) -> None:
    with pytest.raises(NotFoundError, match=r"it has: 1\.0\.0"):
        verify(published, "parts", "3.0.0")


@pytest.mark.parametrize(("place", "claim"), [(slice(124, 136), b"7" * 12), (slice(0, 100), bytes(100))])
def test_a_header_that_no_shard_has_is_told(damaged: Path, place: slice, claim: bytes) -> None:
    """The first claims 64 GiB, for which no room is made; the second has no name."""
    path = damaged / SHARD
    data = bytearray(path.read_bytes())
    data[place] = claim
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    tracemalloc.start()
    try:
        findings = check(damaged)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert any("with another name or size than in shards" in finding.problem for finding in findings)
    assert most < 2**30
