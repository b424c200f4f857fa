"""Folders of photographs with a long tail, as people have them."""

from pathlib import Path

import numpy as np
from PIL import Image


def scene(seed: int, size: tuple[int, int] = (48, 48), mode: str = "RGB") -> Image.Image:
    """Return a picture of soft spots that no other seed has, `size` (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode)


def write_photographs(
    folder: Path,
    counts: dict[str, int],
    *,
    size: tuple[int, int] = (48, 48),
    mode: str = "RGB",
    suffix: str = ".png",
    first: int = 0,
) -> Path:
    """Write `counts` photographs per class folder, all different, and return the folder."""
    seed = first
    for name, count in counts.items():
        inside = folder / name
        inside.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            scene(seed, size, mode).save(inside / f"{number:03}{suffix}")
            seed += 1
    return folder
