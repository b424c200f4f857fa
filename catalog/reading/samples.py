"""Read the bytes of samples from shards, by the byte ranges in the manifest."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.reading.byte_ranges import Read, Request, plan_requests, read_file, read_remote, read_requests
from tailforge.catalog.reading.cache import ShardCache
from tailforge.catalog.reading.index import ShardRows, SplitIndex, open_manifest, read_shard_rows
from tailforge.catalog.store import Store, open_file, storage_errors
from tailforge.schemas.errors import VerificationError

Sample = dict[str, bytes]  # by field
AGAIN = "fetch the shard again or run `tailforge verify` to see what else is wrong"


def read_samples(
    index: SplitIndex,
    positions: NDArray[np.int64],
    order: NDArray[np.int64],
    *,
    cache: ShardCache | None = None,
    verify: bool = False,
) -> Generator[tuple[int, str, str, Sample], None, None]:
    """Yield (position, address of the shard, key, members) for ascending positions, with the shards in `order`.

    `cache`: keeps whole shards. `verify`: compare the sha256 of each member with the manifest. Errors:
    VerificationError for a missing or short shard, and for a member with other bytes.
    """
    store = Store.open(index.store)  # here, since connections do not survive a fork

    with open_manifest(store, index.folder) as manifest:
        for shard, here, rows in index.locate(positions, order):
            found = read_shard_rows(manifest, index, shard, rows, digests=verify)
            origin = f"{index.store}/{index.path(shard)}"
            with _open_shard(store, index, shard, cache) as read:
                samples = _cut_samples(read, found, index.fields, origin)
                for position, (key, sample) in zip(here.tolist(), samples, strict=True):
                    yield position, origin, key, sample


def read_rows(
    store: Store, index: SplitIndex, shard: int, rows: ShardRows, cache: ShardCache | None
) -> list[tuple[str, Sample]]:
    """Return (key, members) of some samples of a shard, after checks if `rows` has digests.

    Errors: VerificationError, as `read_samples`.
    """
    with _open_shard(store, index, shard, cache) as read:
        return list(_cut_samples(read, rows, index.fields, f"{index.store}/{index.path(shard)}"))


@contextmanager
def _open_shard(store: Store, index: SplitIndex, shard: int, cache: ShardCache | None) -> Iterator[Read]:
    """Open a shard from the cache, the local disk or the remote store. Errors: VerificationError, StoreError."""
    path = index.path(shard)
    try:
        with storage_errors("read", f"{index.store}/{path}"):
            if cache is not None:
                with cache.open(store, path, index.shards[shard]) as file:
                    yield read_file(file)
            elif store.is_local:
                with open_file(store.path(path), buffering=0) as file:
                    yield read_file(file)
            else:
                yield read_remote(store, path)
    except FileNotFoundError as error:
        raise VerificationError(f"{index.store}/{path} is missing, which dataset.json lists; {AGAIN}") from error


def _cut_samples(read: Read, rows: ShardRows, fields: tuple[str, ...], origin: str) -> Iterator[tuple[str, Sample]]:
    """Yield (key, members) per row. Errors: VerificationError."""
    starts, stops = rows.offsets[:, 0], rows.offsets[:, -1] + rows.sizes[:, -1]
    requests = plan_requests(list(zip(starts.tolist(), stops.tolist(), strict=True)))
    for request, data in read_requests(read, requests):
        if len(data) < request.stop - request.start:
            raise _cut_off(rows, request, len(data), fields, origin)

        # Positions relative to the request's bytes.
        chosen = slice(request.first, request.last + 1)
        begins = (rows.offsets[chosen] - request.start).tolist()
        ends = (rows.offsets[chosen] + rows.sizes[chosen] - request.start).tolist()
        for number, (begin, end) in enumerate(zip(begins, ends, strict=True), request.first):
            sample = {field: data[a:b] for field, a, b in zip(fields, begin, end, strict=True)}
            if rows.digests is not None:
                _check(sample, rows.digests[number], rows.keys[number], origin)
            yield rows.keys[number], sample


def _cut_off(rows: ShardRows, request: Request, length: int, fields: tuple[str, ...], origin: str) -> Exception:
    """Return the error for a file that ended inside a request."""
    ends = rows.offsets[request.first : request.last + 1] + rows.sizes[request.first : request.last + 1]
    row, field = np.argwhere(ends > request.start + length)[0]
    return VerificationError(
        f"{origin}: cut off: it ends at byte {request.start + length}, and {rows.keys[request.first + row]}."
        f"{fields[field]} ends at byte {ends[row, field]}; {AGAIN}"
    )


def _check(sample: Sample, digests: NDArray[np.object_], key: str, origin: str) -> None:
    """Compare the members' sha256 with the manifest's. Errors: VerificationError."""
    for (field, data), expected in zip(sample.items(), digests, strict=True):
        digest = sha256(data).digest()
        if digest != expected:
            raise VerificationError(
                f"{origin}: {key}.{field} has sha256 {digest.hex()}, the manifest says {expected.hex()}; {AGAIN}"
            )
