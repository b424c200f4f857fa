"""Versions as damage and malice leave them: one change of a sound version each, signed again where a forger could.

`damage_version` changes one thing in a folder, drawn from a seed. "Signed" means that dataset.json holds the digests of
what was changed, so that no comparison of bytes finds it.
"""

import hashlib
import io
import json
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tailforge.tasks.methods.packing.shards import TarPacker
from tests.support.tar_members import read_members

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 10**30, 1.5, 1e308, "", "x", "../../../../escaped", "/nowhere", "a\nb\x1b[31m", "\u202e",
    "x" * 5000, [], [None], {}, {"a": {"b": []}}, ["../x"], [1e308], {"../../y": 1}, "subprocess:check_call",
)  # fmt: skip
DOCUMENTS: tuple[Any, ...] = (
    None,
    [],
    {},
    5,
    "text",
    {"instances": []},
    {"instances": None, "width": 16, "height": 16},
)
NAMES = ("../../../../escaped", "/nowhere", "", ".", "..", "a/b", "train\n", "x" * 300, "\ud800", "train\0")
Damage = Callable[[Path, random.Random], str]


def damage_version(folder: Path, seed: int) -> str:
    """Change one thing in a version's folder; what was done."""
    rng = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    return f"{kind.__name__} {seed}: {kind(folder, rng)}"


def edit_record(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change dataset.json."""
    path = folder / "dataset.json"
    record = json.loads(path.read_text())
    change(record)
    replace(path, json.dumps(record).encode())


def sign(folder: Path, path: str) -> None:
    """Let dataset.json say what a file holds now."""
    data = (folder / path).read_bytes()
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def change(record: dict[str, Any]) -> None:
        record["files"][path] = entry
        for shard in record["shards"]:
            if path == f"shards/{shard['name']}":
                shard.update(entry)

    edit_record(folder, change)


def replace(path: Path, data: bytes) -> None:
    """Files of a version may be hard links to others."""
    path.unlink()
    path.write_bytes(data)


def edit_value(folder: Path, rng: random.Random) -> str:
    """A value of dataset.json is another one, or gone."""
    told = ""

    def change(record: dict[str, Any]) -> None:
        nonlocal told
        place: Any = record
        while True:
            key = rng.choice(sorted(place) if isinstance(place, dict) else range(len(place)))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
                break
            place = inner
        if rng.random() < 0.25:
            del place[key]
            told = f"{key} is gone"
        else:
            place[key] = rng.choice(VALUES)
            told = f"{key} is {place[key]!r:.60}"

    edit_record(folder, change)
    return told


def edit_key(folder: Path, rng: random.Random) -> str:
    """A name in dataset.json that becomes a path or a place is another one, wherever it stands."""
    name = rng.choice(NAMES)

    def change(record: dict[str, Any]) -> None:
        what = rng.choice(("split", "shard", "file", "class", "name", "version", "stage", "concept"))
        shard = rng.choice(record["shards"])
        if what == "split":
            shard["split"] = name
            shard["name"] = rng.choice((shard["name"], f"{name}-000000.tar"))
        elif what == "shard":
            shard["name"] = name
        elif what == "file":
            record["files"][name] = rng.choice(list(record["files"].values()))
        elif what == "class":
            record["classes"][0] = name
            record["categories"][0]["name"] = name
        elif what == "stage":
            record["lineage"]["fingerprints"][name] = [name]
        elif what == "concept":
            record["counts"]["by_concept"][name] = 1
        else:
            record[what] = name

    edit_record(folder, change)
    return repr(name)[:60]


def spoil_record(folder: Path, rng: random.Random) -> str:
    """dataset.json is no record at all."""
    data = (folder / "dataset.json").read_bytes()
    spoilt: dict[str, bytes] = {
        "deep": b'{"name":' + b"[" * 100_000,
        "deep and whole": b'{"recipe":' + b'{"a":' * 500 + b"1" + b"}" * 501,
        "long number": data.replace(b'"samples": ', b'"samples": ' + b"9" * 5000, 1),
        "no text": b"\xff\xfe" + data,
        "not finite": data.replace(b'"samples": ', b'"samples": -Infinity, "other": ', 1),
        "cut": data[: rng.randrange(len(data))],
        "list": b"[]",
        "empty": b"",
    }
    kind = rng.choice(sorted(spoilt))
    replace(folder / "dataset.json", spoilt[kind])
    return kind


def flip_bits(folder: Path, rng: random.Random) -> str:
    """Bits of a file are flipped; in half of the cases it is signed afterwards."""
    names = ["manifest.parquet", "rejects.parquet", "report/summary.json", "dataset.json"]
    path = rng.choice([*names, *(f"shards/{file.name}" for file in sorted((folder / "shards").iterdir()))])
    data = bytearray((folder / path).read_bytes())
    for _ in range(rng.choice((1, 3, 20))):
        place = rng.randrange(len(data)) if rng.random() < 0.5 else len(data) - 1 - rng.randrange(min(len(data), 3000))
        data[place] ^= 1 << rng.randrange(8)
    replace(folder / path, bytes(data))
    if signed := path != "dataset.json" and rng.random() < 0.6:
        sign(folder, path)
    return f"{path}{', signed' if signed else ''}"


def cut_file(folder: Path, rng: random.Random) -> str:
    """A file is cut off, empty, gone or a folder; some are signed."""
    path = rng.choice(["manifest.parquet", "rejects.parquet", "report/summary.json", "shards/train-000000.tar"])
    data, kind = (folder / path).read_bytes(), rng.choice(("cut", "empty", "gone", "folder", "pipe", "link"))
    (folder / path).unlink()
    if kind in ("cut", "empty"):
        (folder / path).write_bytes(data[: rng.randrange(len(data))] if kind == "cut" else b"")
        if rng.random() < 0.6:
            sign(folder, path)
    elif kind == "folder":
        (folder / path).mkdir()
    elif kind == "pipe":
        os.mkfifo(folder / path)
    elif kind == "link":
        (folder / path).symlink_to("/dev/zero")
    return f"{path} is {kind}"


def edit_table(folder: Path, rng: random.Random) -> str:
    """A column of the manifest or the rejects holds other values, another kind, or is gone; signed."""
    name = rng.choice(("manifest.parquet", "rejects.parquet"))
    parquet = pq.ParquetFile(folder / name)
    groups = [parquet.read_row_group(group, use_threads=False) for group in range(parquet.num_row_groups)]
    column = rng.choice(groups[0].column_names)
    kind = rng.choice(("values", "null", "gone", "kind", "twice", "empty", "reversed"))
    changed = [_change_table(table, column, kind, rng) for table in groups]
    schema = changed[0].schema
    with pq.ParquetWriter(folder / f"{name}.new", schema) as writer:
        for table in changed:
            writer.write_table(table.cast(schema))
    (folder / f"{name}.new").replace(folder / name)
    sign(folder, name)
    return f"{name}: {column} {kind}"


def _change_table(table: pa.Table, column: str, kind: str, rng: random.Random) -> pa.Table:
    place, field = table.schema.get_field_index(column), table.schema.field(column)
    if kind == "values":
        return table.set_column(place, field, pa.chunked_array([_odd_values(table[column], field.type, rng)]))
    if kind == "null":
        return table.set_column(place, field, pa.nulls(len(table), field.type))
    if kind == "gone":
        return table.drop_columns([column])
    if kind == "kind":
        other = (pa.int8(), pa.binary(), pa.list_(pa.string()), pa.float64())[len(column) % 4]
        return table.set_column(place, pa.field(column, other), pa.nulls(len(table), other))
    if kind == "twice":
        return table.take(pa.array([0] * len(table)))
    return table.slice(0, 0) if kind == "empty" else table.take(pa.array(range(len(table))[::-1]))


def _odd_values(values: pa.ChunkedArray, kind: pa.DataType, rng: random.Random) -> pa.Array:
    """The values, one of which is replaced by what nobody expects there."""
    found = values.to_pylist()
    if not found:
        return values.combine_chunks()
    row = rng.randrange(len(found))
    if pa.types.is_string(kind):
        texts = ("../../../../escaped", "", "x" * 5000, "{", '{"repair": {}}', '{"repair": 5}', "a\nb", "[" * 5000)
        found[row] = rng.choice(texts)
    elif pa.types.is_integer(kind):
        found[row] = rng.choice((0, 2**31 - 1, -1 if not pa.types.is_unsigned_integer(kind) else 2**63))
    elif pa.types.is_floating(kind):
        found[row] = rng.choice((float("nan"), float("inf"), -1.0, 1e30))
    elif found[row]:
        entry = dict(rng.choice(found[row]))
        key = rng.choice(sorted(entry))
        entry[key] = None if rng.random() < 0.5 else _odd_part(entry[key], rng)
        found[row] = [entry, *found[row][1:]] if rng.random() < 0.8 else []
    else:
        found[row] = None
    return pa.array(found, kind)


def _odd_part(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bytes):
        return bytes(len(value))
    if isinstance(value, str):
        return rng.choice(("../x", "", "png", "oooooooo", "\u00e9", "x" * 300))
    if isinstance(value, list):
        return rng.choice(([], [1.0], [-5.0, 0.0, 1e9, 1.0]))
    return rng.choice((-1, 0, 2**31 - 1))


def edit_member(folder: Path, rng: random.Random) -> str:
    """A member of a sample holds something else; shard, manifest and record are signed."""
    field = rng.choice(("json", "json", "json", "png", "seg.png", "txt", "cls", "attn.npy"))
    path = f"shards/{rng.choice(sorted(file.name for file in (folder / 'shards').iterdir()))}"
    with (folder / path).open("rb") as file:
        members = list(read_members(file))
    chosen = rng.choice([number for number, member in enumerate(members) if member.field == field])
    data, told = odd_member(field, members[chosen].data, rng)
    fields = sorted({member.field for member in members})
    out = io.BytesIO()
    with TarPacker(out, fields) as packer:
        contents = [data if number == chosen else member.data for number, member in enumerate(members)]
        for start in range(0, len(members), len(fields)):
            packer.add(members[start].key, contents[start : start + len(fields)])
    replace(folder / path, out.getvalue())
    _set_members(folder, path.removeprefix("shards/"), packer.members())
    for each in (path, "manifest.parquet"):
        sign(folder, each)
    return f"{members[chosen].name} {told}"


def _set_members(folder: Path, shard: str, members: pa.Array) -> None:
    """Let the manifest say where the members of a shard lie now."""
    parquet = pq.ParquetFile(folder / "manifest.parquet")
    groups = [parquet.read_row_group(group, use_threads=False) for group in range(parquet.num_row_groups)]
    with pq.ParquetWriter(folder / "manifest.new", groups[0].schema) as writer:
        for table in groups:
            if table["shard"][0].as_py() == shard:
                place = table.schema.get_field_index("members")
                table = table.set_column(place, table.schema.field("members"), members)
            writer.write_table(table)
    (folder / "manifest.new").replace(folder / "manifest.parquet")


def odd_member(field: str, data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Other bytes for a member, and what they are."""
    if field == "json":
        return _odd_document(json.loads(data), rng)
    choices: dict[str, bytes] = {"empty": b"", "cut": data[: len(data) // 2], "noise": rng.randbytes(200)}
    if field in ("png", "seg.png"):
        choices |= {
            "postscript": POSTSCRIPT,
            "bomb": _bomb(data),
            "other size": _picture((3, 5)),
            "colours": _picture(),
        }
    elif field == "cls":
        choices |= {"negative": b"-1", "beyond": b"99", "long": b"9" * 5000, "words": b"gear"}
    elif field == "txt":
        choices |= {"no text": b"\xff\xfe\xfd", "nothing": b"\0" * 9}
    else:
        choices |= {"pickle": _array(np.array([{}], object)), "huge": data.replace(b"(1, 4, 4)", b"(1, 4, 4444444444)")}
    kind = rng.choice(sorted(choices))
    return choices[kind], kind


def _odd_document(document: dict[str, Any], rng: random.Random) -> tuple[bytes, str]:
    kind = rng.choice(("whole", "key", "instance", "instance", "instance", "deep", "number"))
    if kind == "whole":
        document = rng.choice(DOCUMENTS)
    elif kind == "deep":
        return b'{"instances":' + b"[" * 50_000, kind
    elif kind == "number":
        return b'{"width": ' + b"1" * 6000 + b"}", kind
    else:
        target = document["instances"][0] if kind == "instance" and document["instances"] else document
        key = rng.choice(sorted(target))
        if rng.random() < 0.3:
            del target[key]
        else:
            target[key] = rng.choice((*VALUES, "oooo", [0, 0, -1, 5], [0, 0, 1e9, 1e9]))
        kind = f"{kind}.{key}"
    return json.dumps(document).encode(), kind


def _bomb(data: bytes) -> bytes:
    """The picture with a header of 60,000 pixels a side."""
    place = data.index(b"IHDR")
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + data[place + 12 : place + 17]
    return data[:place] + header + zlib.crc32(header).to_bytes(4, "big") + data[place + 21 :]


def _picture(size: tuple[int, int] = (16, 16)) -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", size, (200, 3, 4, 9)).save(out, "PNG")
    return out.getvalue()


def _array(array: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def edit_summary(folder: Path, rng: random.Random) -> str:
    """The report's summary is something else; signed."""
    odd = {
        "deep": b"[" * 9000,
        "number": b"1" * 9000,
        "no text": b"\xff",
        "not finite": b'{"costs": Infinity}',
        "list": b"[]",
    }
    kind = rng.choice(sorted(odd))
    replace(folder / "report" / "summary.json", odd[kind])
    sign(folder, "report/summary.json")
    return kind


def edit_header(folder: Path, rng: random.Random) -> str:
    """A header of a tar names another file to other programs; its checksum is right and the shard is signed."""
    path = f"shards/{rng.choice(sorted(file.name for file in (folder / 'shards').iterdir()))}"
    data = bytearray((folder / path).read_bytes())
    with (folder / path).open("rb") as file:
        start = rng.choice([member.offset for member in read_members(file)]) - 512
    odd = {345: b"../../evil", 156: b"2", 157: b"/etc/passwd", 108: b"0000001", 100: b"0004777", 136: b"00000000001"}
    place = rng.choice(sorted(odd))
    data[start + place : start + place + len(odd[place])] = odd[place]
    block = data[start : start + 512]
    total = sum(block) - sum(block[148:156]) + 8 * 32
    data[start + 148 : start + 156] = b"%06o\0 " % total
    replace(folder / path, bytes(data))
    sign(folder, path)
    return f"{path} at {place}"


KINDS: tuple[Damage, ...] = (
    edit_value, edit_key, edit_table, edit_member, edit_value, spoil_record, edit_table, flip_bits, edit_member,
    cut_file, edit_value, edit_table, edit_member, edit_summary, edit_header, flip_bits,
)  # fmt: skip
