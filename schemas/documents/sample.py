"""The JSON of a published sample: what exports, pre-training and verification read of it, whoever wrote it."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_SIDE = 65_535  # pixels: what JPEG holds
ROUNDING = 0.01  # pixels that a box may lie outside its image, as boxes are rounded

Pixels = Annotated[float, Field(ge=0, le=MOST_SIDE)]
Side = Annotated[int, Field(ge=1, le=MOST_SIDE)]


class _Read(BaseModel):
    """What is read of an object that may hold more keys."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class SampleInstance(_Read):
    """A region of one category. `bbox`: x, y, width, height; `rle`: COCO's compressed run lengths, ASCII."""

    slot: str = ""
    category: str
    category_id: int = Field(ge=1, le=254)
    bbox: list[Pixels] = Field(min_length=4, max_length=4)
    area: int = Field(ge=0)
    score: float = Field(ge=0, le=1)
    rle: str = Field(pattern=r"^[0-o]*$")


class SampleDocument(_Read):
    """Size of the image in pixels, and its instances."""

    width: Side
    height: Side
    instances: list[SampleInstance]

    @model_validator(mode="after")
    def _boxes_lie_in_the_image(self) -> Self:
        for each in self.instances:
            x, y, width, height = each.bbox
            if x + width > self.width + ROUNDING or y + height > self.height + ROUNDING:
                raise ValueError(f"box {each.bbox} leaves its image of {self.width} x {self.height} pixels")
        return self
