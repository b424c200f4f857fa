"""Plan shards and write their tar files. All choices are ours.

Mixing: of n samples of a concept, sample r has the position (r + u) / n in its split. The id alone decides u, uniform
in [0, 1). So every stretch of the split holds the concepts in their overall proportions. A shard reads a contiguous
range of every concept's partitions, so writing it needs little memory.

Tar: plain USTAR with fixed time, owner and mode. The members of a sample are adjacent, with sorted fields. A template
makes the headers, because `tarfile` needs more time for one header than the hash of 30 kB.
"""

import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, lru_cache
from types import TracebackType
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailforge.schemas.tables import MEMBERS
from tailforge.tasks.methods.planning.samples import fraction_of

# A sample to pack. `augmented_row`: its row in the partition's AUGMENTED table, or -1 for the unaugmented image.
# `tar_bytes`: smallest size of its members in a tar.
CANDIDATES = pa.schema(
    [
        ("sample_id", pa.string()),
        ("concept", pa.string()),
        ("split", pa.string()),
        ("partition", pa.int32()),
        ("row", pa.int32()),
        ("augmented_row", pa.int32()),
        ("tar_bytes", pa.int64()),
    ]
)
SHARD_PLAN = pa.schema([*CANDIDATES, ("shard", pa.int32())])  # rows in the order of writing

BLOCK = 512
RECORD = 10240  # a tar ends with zeros up to a multiple of this
FLUSH_BYTES = 1 << 20
BLOCKS_IN_FLIGHT = 4
MAX_NAME_BYTES = 100

# A header after the name: mode, user, group; size; time; checksum; type, link, magic, owner names, devices, prefix.
_HEADER = (
    b"0000644\x000000000\x000000000\x00%011o\x0000000000000\x00%06o\x00 0"
    + bytes(100)
    + b"ustar\x0000"
    + bytes(32 + 32 + 8 + 8 + 155 + 12)
)
_PADDING = [bytes(-size % BLOCK) for size in range(BLOCK)]


def tar_bytes(size: Any) -> Any:
    """Return the bytes in a tar of a member of `size` bytes, with header and padding; a number, or an array [N]."""
    return BLOCK + (size + BLOCK - 1) // BLOCK * BLOCK


@lru_cache(1 << 16)
def _sum_digits(size: int) -> int:
    """Return the sum of the octal digits of a size as characters: its part of the header's checksum."""
    return sum(b"%011o" % size)


@cache
def _header_template(name_bytes: int, field: str) -> tuple[bytes, int]:
    """Return the header after a key of `name_bytes` bytes, and its part of the checksum.

    The header has fields for size and checksum. Errors: ValueError if the name is too long for a tar.
    """
    suffix = f".{field}".encode()
    if name_bytes + len(suffix) > MAX_NAME_BYTES:
        raise ValueError(f"a member name that ends in {suffix.decode()} is longer than {MAX_NAME_BYTES} bytes")
    template = suffix + bytes(MAX_NAME_BYTES - name_bytes - len(suffix)) + _HEADER
    # The checksum counts its own field as eight spaces. `_sum_digits` counts the digits of the size.
    return template, sum(template.replace(b"%011o", b"").replace(b"%06o\x00 ", b" " * 8))


def shard_name(split: str, number: int) -> str:
    """Return the file name of a shard. Its number has leading zeros, as brace expansion needs them."""
    return f"{split}-{number:06d}.tar"


def plan_shards(candidates: pa.Table, max_samples: int, max_bytes: int) -> pa.Table:
    """Return the SHARD_PLAN of CANDIDATES in any order: splits by name, the shards of each split counted from 0.

    A shard holds at most `max_samples` samples and `max_bytes` bytes. A larger sample is alone in its shard.
    """
    # Mix the concepts, then fill shard after shard.
    mixed = candidates.cast(CANDIDATES).take(pa.array(_mix(candidates)))
    splits, sizes = mixed["split"].to_pylist(), mixed["tar_bytes"].to_pylist()
    shards: list[int] = []
    split, shard, samples, used = None, -1, 0, 0
    for name, size in zip(splits, sizes, strict=True):
        # A new split starts with a full shard, so its first sample opens shard 0.
        if name != split:
            split, shard, samples = name, -1, max_samples
        if samples >= max_samples or used + size > max_bytes - RECORD:
            shard, samples, used = shard + 1, 0, 0
        samples, used = samples + 1, used + size
        shards.append(shard)
    return mixed.append_column(SHARD_PLAN.field("shard"), pa.array(shards, pa.int32()))


def _mix(candidates: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the numbers of the rows in the order of packing, [rows]."""
    # Sort by split and concept, then by place, so that a group is one concept of one split.
    split, concept = (_codes(candidates[name]) for name in ("split", "concept"))
    place = [candidates[name].to_numpy() for name in ("augmented_row", "row", "partition")]
    order = np.lexsort((*place, concept, split))

    # Rank of each row in its group, and size of the group.
    groups = split[order] * (concept.max(initial=0) + 1) + concept[order]
    _, starts, counts = np.unique(groups, return_index=True, return_counts=True)
    rank, count = np.empty(len(order)), np.empty(len(order))
    rank[order] = np.arange(len(order)) - np.repeat(starts, counts)
    count[order] = np.repeat(counts, counts)

    # Order each split by (rank + jitter) / size; ids break ties.
    ids = candidates["sample_id"].to_pylist()
    jitter = np.array([fraction_of(sample_id, "mix") for sample_id in ids])
    return np.lexsort((_codes(candidates["sample_id"]), (rank + jitter) / count, split)).astype(np.int64)


def _codes(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the alphabetic rank of every text of a column among its distinct texts, [rows]."""
    distinct = pc.unique(column)
    distinct = distinct.take(pc.array_sort_indices(distinct))
    return np.asarray(pc.index_in(column, value_set=distinct).to_numpy(), dtype=np.int64)


class TarPacker:
    """A writer of samples with the same fields into one tar, which records each member's offset, size and sha256.

    A second thread hashes and writes finished blocks while the caller encodes the next samples. Use it as a context
    manager. After the block, `sha256`, `size` and `members()` describe the tar. Errors: ValueError for fields that are
    not sorted and distinct; errors of the file's write.
    """

    def __init__(self, out: IO[bytes], fields: Sequence[str]) -> None:
        if list(fields) != sorted(set(fields)):
            raise ValueError(f"fields must be sorted and distinct, found {list(fields)}")
        self.fields = tuple(fields)
        self.size = 0
        self.sha256 = ""

        # Sizes and digests per member, and the bytes that are not written yet.
        self._out, self._hash = out, hashlib.sha256()
        self._sizes: list[int] = []
        self._digests: list[bytes] = []
        self._parts: list[bytes] = []
        self._flushed = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="tar")
        self._in_flight: deque[Future[None]] = deque()

    def add(self, key: str, payloads: Sequence[bytes]) -> None:
        """Append a sample: the bytes of every field, in the order of `fields`.

        Errors: ValueError if the key is too long for a tar.
        """
        # The checksum of a header is the sum of its bytes.
        name, parts, position = key.encode(), self._parts, self.size
        name_sum, name_bytes = sum(name), len(name)
        for field, data in zip(self.fields, payloads, strict=True):
            size = len(data)
            template, template_sum = _header_template(name_bytes, field)
            header = template % (size, name_sum + template_sum + _sum_digits(size))
            parts += (name, header, data, _PADDING[size % BLOCK])
            self._sizes.append(size)
            self._digests.append(hashlib.sha256(data).digest())
            position += BLOCK + size + (-size % BLOCK)

        # Write in large blocks.
        self.size = position
        if position - self._flushed >= FLUSH_BYTES:
            self._flush()

    def members(self) -> pa.Array:
        """Return the manifest's `members` of all samples, in the order of `add`."""
        # Columns of all members: digests, names of fields, sizes and offsets of their bytes.
        width, total = len(self.fields), len(self._sizes)
        digests = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(32), total, [None, pa.py_buffer(b"".join(self._digests))]
        )
        names = pa.DictionaryArray.from_arrays(
            np.tile(np.arange(width, dtype=np.int32), total // width), pa.array(self.fields)
        ).cast(pa.string())
        sizes = np.array(self._sizes, np.int64)
        offsets = np.cumsum(tar_bytes(sizes)) - tar_bytes(sizes) + BLOCK

        # Group the members of a sample into one list.
        entries = pa.StructArray.from_arrays(
            [names, pa.array(offsets), pa.array(sizes), digests],
            fields=list(MEMBERS.value_type),
        )
        return pa.ListArray.from_arrays(np.arange(0, total + 1, width, dtype=np.int32), entries).cast(MEMBERS)

    def __enter__(self) -> "TarPacker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _flush(self) -> None:
        """Hand the collected bytes to the writing thread, and raise its errors."""
        block, self._parts, self._flushed = b"".join(self._parts), [], self.size
        # The bound of blocks in flight bounds the memory.
        self._in_flight.append(self._pool.submit(self._write, block))
        while len(self._in_flight) > BLOCKS_IN_FLIGHT or (self._in_flight and self._in_flight[0].done()):
            self._in_flight.popleft().result()

    def _write(self, block: bytes) -> None:
        self._hash.update(block)
        self._out.write(block)

    def _finish(self) -> None:
        # Two blocks of zeros end a tar, padded to a whole record.
        end = bytes(2 * BLOCK)
        self._parts.append(end + bytes(-(self.size + len(end)) % RECORD))
        self.size += len(self._parts[-1])
        self._flush()
        while self._in_flight:
            self._in_flight.popleft().result()
        self.sha256 = self._hash.hexdigest()
