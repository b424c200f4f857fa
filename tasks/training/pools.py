"""Render pictures of the workshop once, as memory-mapped arrays on the local disk that every training stage reads.

A pool is a folder: images.npy uint8 [N, H, W, 3], masks.npy bool [N, H, W], labels.npy int16 [N, 3] (positions in
PARTS, MATERIALS, SURFACES) and done.json, written last. Pictures are ordered by part, and in a fixed order within it.
"""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from tailforge.tasks.methods.workshop import MATERIALS, PARTS, SURFACES, render, sample_scene

RENDER_VERSION = "pools.1"  # of the pictures; a new version renders all pools again
CHUNK_IMAGES = 250


class Pool(NamedTuple):
    """Arrays of a rendered pool, aligned by row; the module docstring gives their shapes."""

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    labels: NDArray[np.int16]


def render_pool(
    folder: Path,
    part_counts: Mapping[str, int],
    seed: int,
    size_px: int,
    workers: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Render `part_counts[part]` pictures of each part into `folder`, unless they are there; return their number.

    The pixels depend only on the counts, the seed and the size, not on `workers`. `report(done, total)` is called after
    each chunk.
    """
    total = sum(part_counts.values())
    settings = {"version": RENDER_VERSION, "part_counts": dict(part_counts), "seed": seed, "size_px": size_px}
    if _is_done(folder, settings):
        return total

    # A kill leaves no done.json.
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "done.json").unlink(missing_ok=True)
    _open_arrays(folder, total, size_px)

    # Processes write disjoint rows.
    chunks = _plan_chunks(part_counts)
    finished = 0
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_render_chunk, folder, *chunk, seed, size_px) for chunk in chunks]
        for future in as_completed(futures):
            finished += future.result()
            report(finished, total)

    (folder / "done.tmp").write_text(json.dumps(settings))
    (folder / "done.tmp").rename(folder / "done.json")
    return total


def open_pool(folder: Path) -> Pool:
    """Return the pool's arrays, read-only and memory-mapped."""
    return Pool(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Pool._fields))


def _is_done(folder: Path, settings: dict[str, Any]) -> bool:
    """Return whether the folder holds a whole pool of these settings."""
    done = folder / "done.json"
    return done.exists() and json.loads(done.read_text()) == settings


def _open_arrays(folder: Path, total: int, size_px: int) -> None:
    """Create the files of the arrays."""
    shape = (total, size_px, size_px)
    for name, dtype, full in (
        ("images", np.uint8, (*shape, 3)),
        ("masks", np.bool_, shape),
        ("labels", np.int16, (total, 3)),
    ):
        open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=full)


def _plan_chunks(part_counts: Mapping[str, int]) -> list[tuple[str, int, int, int]]:
    """Return chunks: (part, first picture of the part, one past the last, row of the first)."""
    chunks = []
    row = 0
    for part, count in part_counts.items():
        for first in range(0, count, CHUNK_IMAGES):
            last = min(first + CHUNK_IMAGES, count)
            chunks.append((part, first, last, row + first))
        row += count
    return chunks


def _render_chunk(folder: Path, part: str, first: int, last: int, row: int, seed: int, size_px: int) -> int:
    """Render the pictures `first` to `last` of a part, from a row on; return their number."""
    images, masks, labels = (np.load(folder / f"{name}.npy", mmap_mode="r+") for name in Pool._fields)
    part_seed = seed * len(PARTS) + PARTS.index(part)  # so picture i has another surface in every part
    for offset, index in enumerate(range(first, last)):
        scene = sample_scene(index, part_seed, {part: 1.0})
        drawn = render(scene, size_px=size_px)
        images[row + offset] = drawn.image
        masks[row + offset] = drawn.mask
        labels[row + offset] = (
            PARTS.index(part),
            MATERIALS.index(scene.material),
            SURFACES.index(scene.surface),
        )
    return last - first
