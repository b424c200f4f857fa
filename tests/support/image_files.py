"""Image files and folders that the tests of the reader of images write."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SHADES = 200  # different pictures


def shade(number: int, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> Image.Image:
    """Return a picture of one shade, `size` (width, height), different per number."""
    return Image.new("RGB", size, (number % SHADES, number % SHADES, 255 - number % SHADES)).convert(mode)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of a picture's file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def put(file: Path, number: int = 0, **options: Any) -> Path:
    """Write a picture into a folder that is made where it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode(shade(number, **options)))
    return file


def red_of(data: bytes) -> int:
    """Return the number of a picture that `shade` made."""
    return int(np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[0, 0, 0])
