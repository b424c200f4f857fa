"""Settings of augmentation and packing, which follow acceptance."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from tailforge.schemas.settings.fields import Strict, Text


class Transform(Strict):
    """One albumentations transform: class name and parameters."""

    name: str = Field(pattern=r"^[A-Za-z0-9]+$", max_length=100, description="Class of albumentations.")
    parameters: Mapping[Text, Any] = Field(default_factory=dict, description="Its keyword arguments.")


class Augmentation(Strict):
    """An albumentations pipeline that changes accepted images with their masks and boxes. Gates judge the results."""

    transforms: tuple[Transform, ...] = Field(min_length=1, description="Steps of the pipeline, in order.")
    copies: int = Field(
        0,
        ge=0,
        le=100,
        description="0: change images in place. n: add n samples per image, with the image's id as parent. A result "
        "that misses a gate or loses its concept is not published: in place, the original image stays; a copy "
        "goes to rejects.parquet.",
    )


class Sharding(Strict):
    """Packing of accepted samples into shards."""

    max_samples: int = Field(10_000, ge=1, le=1_000_000, description="Most samples per shard.")
    max_bytes: int = Field(
        512 * 2**20, ge=2**16, le=2**40, description="Most bytes per shard; a single sample may exceed them."
    )
    image_format: Literal["png", "jpg"] = Field("png", description="png is lossless.")
    jpeg_quality: int = Field(95, ge=1, le=100, description="Quality of JPEG, for image_format jpg.")
    attention: bool = Field(False, description="Also publish the soft maps, as .attn.npy.")
    noise: bool = Field(
        False,
        description="Also publish the noise that a searching engine chose, as .noise.npy. `regenerate` then needs no "
        "search.",
    )
    references: bool = Field(
        True, description="Show small copies of the reference photographs in the report, which is published."
    )
