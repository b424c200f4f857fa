"""The JSON document of a published sample, as exports, pre-training and verification read it."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_SIDE = 65_535  # pixels; the limit of JPEG
ROUNDING = 0.01  # pixels by which a rounded box may exceed its image

Pixels = Annotated[float, Field(ge=0, le=MOST_SIDE)]
Side = Annotated[int, Field(ge=1, le=MOST_SIDE)]


class _Read(BaseModel):
    """Base of documents whose unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class SampleInstance(_Read):
    """A region of one category.

    `bbox`: x, y, width, height in pixels. `area`: pixels. `score`: 0..1. `rle`: COCO's compressed run lengths, ASCII.
    `crowd`: whether the region holds several objects that could not be separated; older versions do not say so.
    """

    slot: str = ""
    category: str
    category_id: int = Field(ge=1, le=254)
    bbox: list[Pixels] = Field(min_length=4, max_length=4)
    area: int = Field(ge=0)
    score: float = Field(ge=0, le=1)
    rle: str = Field(pattern=r"^[0-o]*$")
    crowd: bool = False


class SampleDocument(_Read):
    """The size of an image in pixels, and its instances. Boxes exceed the image by rounding errors at most."""

    width: Side
    height: Side
    instances: list[SampleInstance]

    @model_validator(mode="after")
    def _boxes_are_inside_the_image(self) -> Self:
        for each in self.instances:
            x, y, width, height = each.bbox
            if x + width > self.width + ROUNDING or y + height > self.height + ROUNDING:
                raise ValueError(f"box {each.bbox} leaves its image of {self.width} x {self.height} pixels")
        return self
