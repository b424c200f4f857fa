"""The page of an explanation: the image, its components as overlays that can be switched off, and what that changes.

A browser cannot run the decoder, so switching several components off subtracts what removing each alone changes; the
page says so. Everything is in one file, nothing comes from a network, and everything is escaped.
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

LISTED = 24  # components that the page shows
LEVELS = 127  # either side of 128 in the pictures of changes


@dataclass(frozen=True)
class Mended:
    """An attempt at a repair: its image [H, W, 3] (the original where none passed) and the record in its provenance."""

    pixels: NDArray[np.uint8]
    told: Mapping[str, Any]


@dataclass(frozen=True)
class ExplanationPage:
    """What the page tells. `rows`: of EXPLANATION; `arrays`: see ledger.collect_arrays; `summary`: ledger.summarise."""

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
    """The HTML text; equal data give equal text. `template`: tasks/report/templates/explanation.html.j2."""
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
    """Rows to show with their pictures: those behind the region first, then the strongest."""
    shown = sorted((row for row in page.rows if row.get("shown") is not None), key=lambda row: row["shown"])
    ranked = sorted(shown, key=lambda row: row.get("region_rank") or len(shown) + 1)
    return [(row, picture_change(page.arrays["deleted"][row["shown"]])) for row in ranked[:LISTED]]


def picture_change(change: NDArray[np.float16]) -> tuple[str, float]:
    """A change [3, H, W] of an image in -1..1 as a picture, 128 for none, and what 127 levels mean in levels of 255."""
    values = change.astype(np.float32).transpose(1, 2, 0) * 127.5
    scale = max(float(np.abs(values).max()), 1e-3)
    pixels = np.round(128 + values / scale * LEVELS).astype(np.uint8)
    return to_uri(pixels), round(scale, 4)


def to_uri(pixels: NDArray[np.uint8]) -> str:
    """A data URI of an RGB image [H, W, 3]."""
    return f"data:image/png;base64,{base64.b64encode(encode_png(pixels)).decode()}"


def outline_region(region: NDArray[np.bool_] | None) -> list[list[int]]:
    """Rows of a region [H, W] as runs [y, first x, x after the last], for the browser to draw."""
    if region is None:
        return []
    runs = []
    for y, row in enumerate(region):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(np.int8), [0]))))
        runs += [[y, int(first), int(end)] for first, end in zip(edges[::2], edges[1::2], strict=True)]
    return runs
