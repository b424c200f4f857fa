"""Pictures: only the formats that a place names are decoded, whole, and whatever goes wrong is one error."""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tailforge.catalog.exports.export import export_version
from tailforge.catalog.pictures import (
    PHOTOGRAPHS,
    PNG,
    PUBLISHED,
    SUFFIXES,
    find_suffix,
    measure_shown,
    open_picture,
    show_picture,
    show_rgb,
    to_mask,
)
from tailforge.catalog.reading.decoding import decode_sample
from tailforge.catalog.sources.references import open_references
from tailforge.catalog.store import Store
from tailforge.schemas.errors import PictureError, RecipeError, VerificationError
from tailforge.schemas.recipe import Concept
from tests.support.drawn_version import NAME, draw_masks, write_version

NOISE = np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8)
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n%%EOF\n"


def encode(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(NOISE).convert(mode).save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program named gs that leaves this file when it is started."""
    program, ran = tmp_path / "bin" / "gs", tmp_path / "ran"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # not looked for yet
    return ran


@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_a_photograph_is_decoded_whole(kind: str) -> None:
    lossless: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    found = np.asarray(open_picture(encode(kind, **lossless), PHOTOGRAPHS, show_rgb))
    assert found.shape == NOISE.shape
    assert kind == "JPEG" or np.array_equal(found, NOISE)


@pytest.mark.parametrize("data", [encode("GIF"), encode("PPM"), encode("ICO"), encode("TGA"), POSTSCRIPT, b"", b"x"])
def test_other_formats_are_refused(data: bytes) -> None:
    with pytest.raises(PictureError, match="it is no BMP, JPEG, PNG, TIFF or WEBP file"):
        open_picture(data, PHOTOGRAPHS)


@pytest.mark.parametrize(("field", "kind"), [("png", "JPEG"), ("jpg", "PNG"), ("seg.png", "WEBP"), ("png", "TIFF")])
def test_a_member_is_of_the_format_of_its_name(field: str, kind: str) -> None:
    with pytest.raises(PictureError, match=r"it is no (PNG|JPEG) file"):
        open_picture(encode(kind), PUBLISHED[field])


def test_postscript_under_another_name_starts_no_program(tmp_path: Path, ghostscript: Path) -> None:
    """As a member of a sample, a mask that is exported, and a reference photograph."""
    with Image.open(io.BytesIO(POSTSCRIPT)) as image, pytest.raises(OSError, match="identify"):
        image.load()  # what Pillow does of itself
    assert ghostscript.exists()
    ghostscript.unlink()
    sample = {"__key__": "0", "png": POSTSCRIPT, "seg.png": encode("PNG", "L"), "txt": b"", "cls": b"0", "json": b"{}"}
    for field in ("png", "seg.png"):
        with pytest.raises(PictureError, match="no PNG"):
            decode_sample(sample | {"png": encode("PNG")} | {field: POSTSCRIPT})
    (tmp_path / "photos").mkdir()
    for suffix in SUFFIXES:
        file = tmp_path / "photos" / f"a{suffix}"
        file.write_bytes(POSTSCRIPT)
        with pytest.raises(RecipeError, match="cannot be read as an image: it is no BMP"):
            list(open_references(tmp_path, Concept(name="gear", wanted=1, references="photos")))
        file.unlink()
    assert not ghostscript.exists()


@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_a_picture_that_is_cut_off_is_refused_wherever_it_is_cut(kind: str) -> None:
    data = encode(kind)
    for length in range(0, len(data), 3):
        with pytest.raises(PictureError):
            open_picture(data[:length], PHOTOGRAPHS)
    if kind != "TIFF":  # whose last byte may be one of padding
        with pytest.raises(PictureError):
            open_picture(data[:-1], PHOTOGRAPHS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_damage_is_one_error_or_none(kind: str) -> None:
    """Whatever Pillow raises, and it raises errors of many kinds; with EXIF, which is read late."""
    exif = Image.Exif()
    exif[0x0112] = 6
    draws, data = random.Random(kind), encode(kind, **({} if kind == "BMP" else {"exif": exif}))
    refused = 0
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(draws.randint(1, 20)):
            damaged[draws.randrange(min(len(data), 400))] = draws.randrange(256)
        try:
            open_picture(bytes(damaged), PHOTOGRAPHS, show_rgb)
        except PictureError:
            refused += 1
    assert refused


def png_of(width: int, height: int) -> bytes:
    header = struct.pack(">2I", width, height) + b"\x08\x00\x00\x00\x00"
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("bound", [None, 10**9, 89_478_485])
def test_too_many_pixels_are_refused_whatever_the_process_allows(
    bound: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", bound)
    with pytest.raises(PictureError, match=r"more than 178,956,970 pixels.*scale it down"):
        open_picture(png_of(20_000, 20_000), PNG)


def test_a_mask_holds_values_and_no_colours() -> None:
    for mode in ("P", "L"):
        assert open_picture(encode("PNG", mode), PNG, to_mask).mode == mode
    for mode in ("RGB", "LA", "1", "I;16"):
        with pytest.raises(PictureError, match=f"of mode {mode}"):
            open_picture(encode("PNG", mode), PNG, to_mask)


def _turn(data: bytes) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).save(out, "PNG", exif=exif)
    return out.getvalue()


@pytest.mark.parametrize(("convert", "size"), [(show_rgb, (24, 20)), (None, (20, 24))])
def test_a_picture_is_turned_upright_where_it_is_asked_for(
    convert: Callable[[Image.Image], Image.Image] | None, size: tuple[int, int]
) -> None:
    assert open_picture(_turn(encode("PNG")), PNG, convert).size == size


def test_an_exported_mask_is_a_png(tmp_path: Path, ghostscript: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    dataset = write_version(store, {"train": draw_masks()})
    shard = Path(store.path(f"datasets/{NAME}/{dataset.version}/shards/train-000000.tar"))
    content = shard.read_bytes()
    at = content.index(b"\x89PNG", content.index(b".seg.png"))
    shard.write_bytes(content[:at] + POSTSCRIPT + content[at + len(POSTSCRIPT) :])
    for kind in ("voc", "panoptic"):
        with pytest.raises(VerificationError, match=r"seg\.png has sha256"):
            export_version(store, NAME, dataset.version, kind, tmp_path / kind)
    assert not ghostscript.exists()


GREY_PIXELS = np.arange(24 * 20, dtype=np.uint8).reshape(24, 20)


def _file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "mode", "expected"),
    [
        (_file(Image.fromarray(GREY_PIXELS)), "L", GREY_PIXELS),
        (_file(Image.fromarray(GREY_PIXELS.astype(np.uint16) * 256 + 99)), "L", GREY_PIXELS),
        (_file(Image.fromarray(GREY_PIXELS.astype(np.int32) * 256), "TIFF"), "L", GREY_PIXELS),
        (_file(Image.fromarray(GREY_PIXELS.astype(np.float32) / 255), "TIFF"), "L", GREY_PIXELS),
        (_file(Image.fromarray(GREY_PIXELS > 99)), "L", np.where(GREY_PIXELS > 99, 255, 0)),
        (_file(Image.merge("LA", [Image.fromarray(GREY_PIXELS)] * 2).point([255] * 256 + [0] * 256)), "L", 128),
        (encode("PNG"), "RGB", NOISE),
        (_file(Image.new("RGBA", (20, 24), (255, 0, 0, 0))), "RGB", 128),
        (_file(Image.new("P", (20, 24), 1)), "RGB", None),
        (_file(Image.new("CMYK", (20, 24), (0, 255, 255, 0)), "TIFF"), "RGB", np.full((24, 20, 3), (255, 0, 0))),
        (_file(Image.new("YCbCr", (20, 24), (128, 128, 128)), "JPEG"), "RGB", 128),
    ],
    ids=["grey", "16 bits", "32 bits", "float", "1 bit", "grey alpha", "colour", "alpha", "palette", "CMYK", "YCbCr"],
)
def test_a_picture_is_brought_to_8_bits_and_stays_grey(data: bytes, mode: str, expected: Any) -> None:
    shown = open_picture(data, PHOTOGRAPHS, show_picture)
    assert (shown.mode, shown.size) == (mode, (20, 24))
    assert expected is None or (np.asarray(shown) == expected).all()
    measured = measure_shown(data, PHOTOGRAPHS)
    assert (measured.width, measured.height, measured.channels) == (20, 24, len(shown.getbands()))
    in_colour = open_picture(data, PHOTOGRAPHS, show_rgb)
    assert np.array_equal(np.asarray(in_colour), np.asarray(shown.convert("RGB")))


@pytest.mark.parametrize("values", [[0, 2], [-0.1, 1], [0, float("nan")], [0, float("inf")], [0, 255]])
def test_floats_of_unknown_scale_are_refused(values: list[float]) -> None:
    data = _file(Image.fromarray(np.array([values], np.float32)), "TIFF")
    with pytest.raises(PictureError, match=r"floats outside 0\.\.1, whose scale is unknown; save it with 8 or 16 bits"):
        open_picture(data, PHOTOGRAPHS, show_picture)


@pytest.mark.parametrize("values", [[-1, 5], [0, 65536]])
def test_whole_numbers_of_unknown_scale_are_refused(values: list[int]) -> None:
    data = _file(Image.fromarray(np.array([values], np.int32)), "TIFF")
    with pytest.raises(PictureError, match=r"numbers outside 0\.\.65535, whose scale is unknown"):
        open_picture(data, PHOTOGRAPHS, show_picture)


def test_a_turned_picture_is_measured_as_it_is_shown() -> None:
    data = _turn(encode("PNG"))
    shown = open_picture(data, PHOTOGRAPHS, show_picture)
    measured = measure_shown(data, PHOTOGRAPHS)
    assert (measured.width, measured.height) == shown.size == (24, 20)


@pytest.mark.parametrize(
    ("kind", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("TIFF", ".tif"), ("BMP", ".bmp")]
)
def test_bytes_tell_a_files_suffix(kind: str, suffix: str) -> None:
    assert find_suffix(encode(kind), PHOTOGRAPHS) == suffix
    assert suffix in SUFFIXES


def test_a_jpeg_is_decoded_small_where_that_suffices() -> None:
    out = io.BytesIO()
    Image.new("RGB", (800, 400), "teal").save(out, "JPEG")
    assert open_picture(out.getvalue(), PHOTOGRAPHS, show_rgb, least_side=100).size == (200, 100)
    assert open_picture(out.getvalue(), PHOTOGRAPHS, show_rgb, least_side=300).size == (800, 400)
    assert open_picture(encode("PNG"), PHOTOGRAPHS, show_rgb, least_side=2).size == (20, 24)
