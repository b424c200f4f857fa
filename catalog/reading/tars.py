"""The tar format of shards: plain USTAR, a header of 512 bytes before each member, and zeros at the end."""

from dataclasses import dataclass

from tailforge.schemas.documents.shown import count_of

BLOCK = 512
RECORD = 10240
MAX_NAME_BYTES = 100
CHECKSUM = slice(148, 156)
HEADER = {  # bytes of the parts of a USTAR header
    "name": slice(0, 100),
    "mode": slice(100, 108),
    "user": slice(108, 116),
    "group": slice(116, 124),
    "size": slice(124, 136),
    "time": slice(136, 148),
    "type": slice(156, 157),
    "link": slice(157, 257),
    "format": slice(257, 265),
    "names of owners": slice(265, 329),
    "devices": slice(329, 345),
    "prefix": slice(345, 500),
    "padding": slice(500, 512),
    "checksum": CHECKSUM,  # last, since it follows from the others
}


@dataclass(frozen=True)
class Member:
    """A file inside a tar. `offset`: first byte of its data."""

    name: str
    offset: int
    data: bytes

    @property
    def key(self) -> str:
        """Return the id of the member's sample: its name up to the first dot."""
        return self.name.split(".", 1)[0]

    @property
    def field(self) -> str:
        """Return the field of the member: its name after the first dot."""
        return self.name.partition(".")[2]


def parse_header(block: bytes) -> tuple[str, int]:
    """Return name and size (bytes) of a member from its header. Errors: ValueError with the header's fault."""
    if len(block) < BLOCK:
        raise ValueError(f"the header is cut off after {len(block)} of {BLOCK} bytes")
    expected = sum(block) - sum(block[CHECKSUM]) + 8 * ord(" ")
    if block[257:262] != b"ustar" or int(block[CHECKSUM].strip(b" \0") or b"0", 8) != expected:
        raise ValueError("the header does not match its own checksum")
    size = int(block[124:136].strip(b" \0"), 8)
    if size < 0:
        raise ValueError(f"the header gives a size of {count_of(size, 'byte')}")
    return block[:100].rstrip(b"\0").decode(), size


def write_header(name: str, size: int) -> bytes:
    """Return the header of a shard's member: fixed mode, time and owner, no link and no prefix.

    Errors: ValueError for a name or size that does not fit into a header.
    """
    if not 0 < len(name.encode()) <= MAX_NAME_BYTES or not 0 <= size < 8**11:
        raise ValueError(f"no shard has a member {name!r:.80} of {size} bytes")

    blank = b"".join(
        (
            name.encode().ljust(MAX_NAME_BYTES, b"\0"),
            b"0000644\0" + b"0000000\0" + b"0000000\0",  # mode, user, group
            b"%011o\0" % size,
            b"00000000000\0",  # time
            b" " * 8,  # the checksum counts itself as spaces
            b"0",  # a file
            bytes(100),  # link
            b"ustar\0" + b"00",
            bytes(32 + 32 + 8 + 8 + 155 + 12),  # names of owners, devices, prefix, padding
        )
    )
    return blank[: CHECKSUM.start] + b"%06o\0 " % sum(blank) + blank[CHECKSUM.stop :]


def find_difference(block: bytes, name: str, size: int) -> str | None:
    """Return the name of the first part in which a header differs from a shard's, or None if it is equal."""
    try:
        expected = write_header(name, size)
    except ValueError:
        return "name or size"
    return next((part for part, place in HEADER.items() if block[place] != expected[place]), None)


def padded(size: int) -> int:
    """Return `size` rounded up to whole blocks, in bytes."""
    return -(-size // BLOCK) * BLOCK
