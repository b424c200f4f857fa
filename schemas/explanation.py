"""Settings of an explanation, and the record of a repair, which the next build applies."""

from typing import Annotated, Literal

from pydantic import Field

from tailforge.schemas.receipts import Receipt
from tailforge.schemas.settings.fields import Strict

MOST_MEMORY_GIB = 65_536
MOST_STEP = 1000
MOST_LAYER = 1000  # characters of its name


class ExplainSettings(Strict):
    """Decomposition of one sample (arXiv 2410.04421). Tailforge chose all defaults except the grid."""

    target: Literal["decoder", "step"] = "decoder"
    layer: Annotated[str, Field(max_length=MOST_LAYER)] | None = None  # None: the last possible layer
    step: int | None = Field(None, ge=1, le=MOST_STEP)  # denoising step, for target step only; None: the last
    order: int | None = Field(2, ge=1, le=36)  # most patches per component; None: all sets, for at most nine patches
    grid: int = Field(6, ge=1, le=64)  # patches per side
    background: int = Field(256, ge=2, le=4096)  # images of the version in the mean of the baseline
    memory_gib: float = Field(4.0, gt=0, le=MOST_MEMORY_GIB)
    hold_statistics: bool = True


class Bound(Strict):
    """A bound of a gate that a sample missed: the gate's name, the side and the value."""

    gate: str
    side: Literal["low", "high"]
    value: float


class Region(Strict):
    """A faulty region of an image.

    `rle`: COCO run lengths at the image's size. `source`: the region's origin. `bound`: the missed gate, if any.
    """

    rle: str
    source: str
    bound: Bound | None = None


class RepairRecord(Strict):
    """A repaired sample. `samples`: its row of SAMPLES, which replaces `parent` while that is unchanged.

    `parent_image`: sha256 of the repaired PNG, by which a build recognises an unchanged parent.
    """

    dataset: str
    parent: str
    sample_id: str
    parent_image: str
    samples: Receipt
