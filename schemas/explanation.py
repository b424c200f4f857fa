"""What is asked of an explanation, and the record of a repair that the next build honours."""

from typing import Annotated, Literal

from pydantic import Field

from tailforge.schemas.receipts import Receipt
from tailforge.schemas.settings.fields import Strict

MOST_MEMORY_GIB = 65_536
MOST_STEP = 1000
MOST_LAYER = 1000  # characters of its name


class ExplainSettings(Strict):
    """How one sample is decomposed (arXiv 2410.04421; every default but the grid is our own choice)."""

    target: Literal["decoder", "step"] = "decoder"
    layer: Annotated[str, Field(max_length=MOST_LAYER)] | None = None  # None: the last that is possible
    step: int | None = Field(None, ge=1, le=MOST_STEP)  # of the engine's steps, target step alone; None: the last
    order: int | None = Field(2, ge=1, le=36)  # the most patches of a component; None: all sets, of nine patches
    grid: int = Field(6, ge=1, le=64)  # patches a side
    background: int = Field(256, ge=2, le=4096)  # images of the version that the baseline is a mean over
    memory_gib: float = Field(4.0, gt=0, le=MOST_MEMORY_GIB)
    hold_statistics: bool = True


class Bound(Strict):
    """The side of a gate's bound that a sample missed."""

    gate: str
    side: Literal["low", "high"]
    value: float


class Region(Strict):
    """Where something is wrong: COCO run lengths of the image's size, where they are from, and the gate if one was."""

    rle: str
    source: str
    bound: Bound | None = None


class RepairRecord(Strict):
    """A sample that was mended: `samples` is its row of SAMPLES, which stands in for `parent` while that is unchanged.

    `parent_image`: sha256 of the PNG that was mended, by which a build sees that the parent is still the same.
    """

    dataset: str
    parent: str
    sample_id: str
    parent_image: str
    samples: Receipt
