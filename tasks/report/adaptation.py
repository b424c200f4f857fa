"""Show how the generator of a version was adapted: the error and the first and last pictures of the training."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from PIL import Image

from tailforge.catalog.pictures import PUBLISHED, open_picture, to_rgb
from tailforge.tasks.report.histograms import show_number
from tailforge.tasks.report.trends import Reading, Trend, draw_trend

SHEET_PX = 1600  # longest side of a shown sheet


@dataclass(frozen=True)
class Sheet:
    """Pictures of a measurement. `place`: of the file; `rows`: class per row, empty without classes."""

    step: int
    place: str
    width: int
    height: int
    rows: Sequence[str]


@dataclass(frozen=True)
class AdaptationPart:
    """The error by optimiser steps, and the pictures of the first and of the last measurement."""

    trend: Trend | None
    sheets: Sequence[Sheet]


def draw_adaptation(table: pa.Table | None, files: dict[str, bytes]) -> AdaptationPart | None:
    """Return what ADAPTATIONS show, and put the sheets into `files`; None if the build adapted no generator."""
    rows = [] if table is None else table.to_pylist()
    if not rows:
        return None
    readings = [
        Reading(str(row["step"]), row["error"], row["error"], row["error"], show_number(row["error"])) for row in rows
    ]
    drawn = [row for row in rows if row["pictures"]]
    shown = drawn[:1] + drawn[1:][-1:]
    sheets = [_draw_sheet(row["step"], row["pictures"], row["classes"] or (), files) for row in shown]
    return AdaptationPart(draw_trend("Denoising error by step", readings), sheets)


def _draw_sheet(step: int, pictures: bytes, classes: Sequence[str], files: dict[str, bytes]) -> Sheet:
    """Return a sheet, whose file is a WebP of at most SHEET_PX."""
    sheet = to_rgb(open_picture(pictures, PUBLISHED["png"]))
    sheet.thumbnail((SHEET_PX, SHEET_PX), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    sheet.save(out, "WEBP", quality=85, method=4)
    place = f"images/adaptation-{step}.webp"
    files[place] = out.getvalue()
    return Sheet(step, place, sheet.width, sheet.height, tuple(classes))
