"""A reader of shards' tars from end to end, for tests that look into them or damage them."""

from collections.abc import Iterator
from typing import IO

from tailforge.catalog.reading.tars import BLOCK, Member, padded, parse_header


def read_members(file: IO[bytes]) -> Iterator[Member]:
    """Members of a sound tar from its beginning to its end."""
    position = 0
    while (block := file.read(BLOCK)).strip(b"\0"):
        name, size = parse_header(block)
        yield Member(name, position + BLOCK, file.read(padded(size))[:size])
        position += BLOCK + padded(size)
