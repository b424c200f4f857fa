"""Draws docs/images/demo.png, the README picture, from the demo's store: `python -m tests.benchmarks.demo_picture`.

The first accepted images of every concept in the order of their ids (hashes), so nobody chose them; below each image
the same one with its mask, as in the report.
"""

import io
import sys
from collections import defaultdict

from PIL import Image

from tailforge import open_dataset
from tailforge.tasks.report.overlays import draw_overlay
from tests.benchmarks.pages import ROOT

PER_CONCEPT, TILE = 2, 128


def draw_pair(image: bytes, mask: bytes) -> tuple[Image.Image, Image.Image]:
    """An image, and the image with its mask over it."""
    plain = Image.open(io.BytesIO(image)).convert("RGBA").resize((TILE, TILE), Image.Resampling.LANCZOS)
    overlay = Image.open(io.BytesIO(draw_overlay(mask))).convert("RGBA").resize((TILE, TILE))
    return plain, Image.alpha_composite(plain, overlay)


def main(dataset: str) -> None:
    """Write the picture."""
    by_class: dict[int, list[tuple[Image.Image, Image.Image]]] = defaultdict(list)
    for sample in sorted(open_dataset(dataset, decode=False), key=lambda sample: str(sample["key"])):
        own = by_class[int(sample["cls"])]
        if len(own) < PER_CONCEPT:
            own.append(draw_pair(sample["image"], sample["mask"]))
    pairs = [pair for cls in sorted(by_class) for pair in by_class[cls]]
    columns = len(pairs) // 2
    sheet = Image.new("RGB", (columns * TILE, 4 * TILE))
    for i, pair in enumerate(pairs):
        for j, tile in enumerate(pair):
            sheet.paste(tile.convert("RGB"), (i % columns * TILE, (i // columns * 2 + j) * TILE))
    target = ROOT / "docs" / "images" / "demo.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "store/datasets/workshop")
