"""The recipe's words for what becomes of accepted samples: how they are augmented, and how they are packed."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from tailforge.schemas.settings.fields import Strict, Text


class Transform(Strict):
    """One albumentations transform by class name with its own parameters."""

    name: str = Field(pattern=r"^[A-Za-z0-9]+$", max_length=100)
    parameters: Mapping[Text, Any] = Field(default_factory=dict)


class Augmentation(Strict):
    """An albumentations pipeline over accepted samples, masks and boxes with the image, judged by the gates."""

    transforms: tuple[Transform, ...] = Field(min_length=1)
    copies: int = Field(
        0,
        ge=0,
        le=100,
        description="0: in place; n: n extra samples that know their parent. An augmented image that misses a gate or "
        "loses its concept is not published: in place the image stays as it was drawn, a copy goes to rejects.parquet.",
    )


class Sharding(Strict):
    """How accepted samples are packed."""

    max_samples: int = Field(10_000, ge=1, le=1_000_000, description="Samples a shard at most.")
    max_bytes: int = Field(
        512 * 2**20, ge=2**16, le=2**40, description="Bytes a shard at most, except for a single sample."
    )
    image_format: Literal["png", "jpg"] = "png"
    jpeg_quality: int = Field(95, ge=1, le=100)
    attention: bool = Field(False, description="Also ship the soft maps as .attn.npy.")
    noise: bool = Field(
        False,
        description="Also ship what a searching engine chose as .noise.npy: `regenerate` then need not search.",
    )
    references: bool = Field(
        True, description="Show small pictures of the reference photographs in the report, which is published."
    )
