"""Draw the page of an explanation: the image, its components as overlays with switches, and their effects.

A browser cannot run the decoder, so switching several components off subtracts the change of removing each alone, and
the page says so. The page is one file, loads nothing from a network, and escapes all texts.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.explanation import ExplainSettings
from tailforge.tasks.methods.packing.png import encode_png
from tailforge.tasks.report.histograms import show_number

LISTED = 24  # components on the page
LEVELS = 127  # on either side of 128 in pictures of changes


@dataclass(frozen=True)
class Mended:
    """A repair: its image [H, W, 3] (the original if no attempt passed) and its record in the provenance."""

    pixels: NDArray[np.uint8]
    told: Mapping[str, Any]


@dataclass(frozen=True)
class ExplanationPage:
    """Content of the page. `rows`: EXPLANATION; `arrays`: see ledger.collect_arrays; `summary`: ledger.summarise."""

    sample_id: str
    dataset: str
    prompt: str
    settings: ExplainSettings
    layer: str
    region: str
    rows: Sequence[Mapping[str, Any]]
    arrays: Mapping[str, NDArray[Any]]
    summary: Mapping[str, Any]
    mended: Mended | None = None


def draw_explanation(page: ExplanationPage, template: str) -> str:
    """Return the HTML text; equal data give equal text. `template`: tasks/report/templates/explanation.html.j2."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=show_number, percent=lambda share: f"{100 * share:.0f}\N{NO-BREAK SPACE}%")

    listed = choose_listed(page)
    height, width = page.arrays["image"].shape[:2]
    data = json.dumps(
        {
            "width": width,
            "height": height,
            "grid": page.settings.grid,
            "region": outline_region(page.arrays.get("region")),
            "components": [{"scale": scale, "patches": list(row["patches"])} for row, (_, scale) in listed],
        }
    ).replace("<", "\\u003c")

    return environment.from_string(template).render(
        page=page,
        image=to_uri(page.arrays["image"]),
        baseline=to_uri(page.arrays["baseline"]),
        components=[(row, uri) for row, (uri, _) in listed],
        mended=None if page.mended is None else to_uri(page.mended.pixels),
        size=(width, height),
        data=data,
        nonce=hashlib.sha256(data.encode()).hexdigest()[:32],
    )


def choose_listed(page: ExplanationPage) -> list[tuple[Mapping[str, Any], tuple[str, float]]]:
    """Return rows to show with their pictures: first components behind the region, then the strongest."""
    shown = sorted((row for row in page.rows if row.get("shown") is not None), key=lambda row: row["shown"])
    ranked = sorted(shown, key=lambda row: row.get("region_rank") or len(shown) + 1)
    return [(row, picture_change(page.arrays["deleted"][row["shown"]])) for row in ranked[:LISTED]]


def picture_change(change: NDArray[np.float16]) -> tuple[str, float]:
    """Return a change [3, H, W] of an image in -1..1 as a picture (128 is no change) and its scale.

    The scale is the change of 127 levels of the picture, in levels of 255.
    """
    values = change.astype(np.float32).transpose(1, 2, 0) * 127.5
    scale = max(float(np.abs(values).max()), 1e-3)
    pixels = np.round(128 + values / scale * LEVELS).astype(np.uint8)
    return to_uri(pixels), round(scale, 4)


def to_uri(pixels: NDArray[np.uint8]) -> str:
    """Return a data URI of an RGB image [H, W, 3]."""
    return f"data:image/png;base64,{base64.b64encode(encode_png(pixels)).decode()}"


def outline_region(region: NDArray[np.bool_] | None) -> list[list[int]]:
    """Return the rows of a region [H, W] as runs [y, first x, x after the last]."""
    if region is None:
        return []
    runs = []
    for y, row in enumerate(region):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(np.int8), [0]))))
        runs += [[y, int(first), int(end)] for first, end in zip(edges[::2], edges[1::2], strict=True)]
    return runs
