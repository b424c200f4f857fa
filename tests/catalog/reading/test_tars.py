"""Headers of tars: those that verification expects are those that shards are written with, and that tarfile reads."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.catalog.reading.tars import BLOCK, find_difference, write_header
from tailforge.tasks.methods.packing.shards import TarPacker


@given(key=st.from_regex(r"[0-9a-f]{16}", fullmatch=True), size=st.integers(0, 5000))
def test_a_header_is_the_one_that_shards_are_written_with(key: str, size: int) -> None:
    out = io.BytesIO()
    with TarPacker(out, ["seg.png"]) as packer:
        packer.add(key, [bytes(size)])
    header = out.getvalue()[:BLOCK]
    assert write_header(f"{key}.seg.png", size) == header
    assert find_difference(header, f"{key}.seg.png", size) is None
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        assert [(each.name, each.size, each.isreg()) for each in tar] == [(f"{key}.seg.png", size, True)]


@pytest.mark.parametrize(("name", "size"), [("", 1), ("x" * 101, 1), ("a.png", -1), ("a.png", 8**11)])
def test_what_no_shard_holds_has_no_header(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="no shard has a member"):
        write_header(name, size)
