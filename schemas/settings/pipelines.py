"""The source of a text-to-image generator: a pipeline, with LoRA files and a ControlNet."""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from tailforge.schemas.settings.fields import ModelSource, Place

ADDED = ("loras", "control")  # keys that a stored recipe leaves out if they add nothing
HEAVIEST = 2.0  # largest weight of a LoRA; Tailforge's own bound
MOST_LORAS = 16
LORA_FILE = r"^[\w-][\w. ()+-]*\.safetensors$"  # name of a file


class LoraSource(ModelSource):
    """A LoRA file (arXiv 2106.09685) as diffusers or kohya's scripts write it, in safetensors."""

    model: str = Field(
        min_length=1,
        max_length=4096,
        description="File, or folder with one, relative to the recipe; or hub id `owner/name`.",
    )
    file: str | None = Field(
        None,
        pattern=LORA_FILE,
        max_length=255,
        description="File's name in a folder or hub model. By default the folder's only safetensors file, and "
        "pytorch_lora_weights.safetensors of a hub model.",
    )
    weight: float = Field(
        1.0, ge=0, le=HEAVIEST, description="Factor of the change to the generator's weights; 0: no change."
    )
    sha256: str | None = Field(
        None, max_length=64, pattern=r"^[0-9a-f]{64}$", description="Digest that the file must have; by default any."
    )


class ControlSource(ModelSource):
    """A ControlNet (arXiv 2302.05543) in diffusers' layout, which makes images follow other images."""

    kind: Literal["edges", "depth", "masks"] = Field(
        description="Images that it reads. edges: Canny's edges of photographs, which Tailforge finds. depth, masks: "
        "depth maps or coloured masks, used as they are."
    )
    images: Place = Field(
        description="Folder of photographs, depth maps or masks and nothing else, relative to the recipe. The seed of "
        "a sample decides its image."
    )
    scale: float = Field(1.0, ge=0, le=HEAVIEST, description="Factor of the ControlNet's influence; 0: none.")
    fit: Literal["crop", "pad", "stretch"] = Field(
        "crop",
        description="For images of another size. crop: scale to cover the size and keep the middle. pad: scale to fit "
        "in, with black around. stretch: scale both sides on their own.",
    )


class PipelineSource(ModelSource):
    """A text-to-image pipeline."""

    loras: tuple[LoraSource, ...] = Field(
        (),
        max_length=MOST_LORAS,
        description="LoRA files that change the generator's weights, in order. Stable Diffusion 1, 2 and XL alone.",
    )
    control: ControlSource | None = Field(
        None, description="ControlNet, for engine plain with Stable Diffusion 1, 2 and XL alone."
    )

    @model_serializer(mode="wrap")
    def _leave_out_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write only given additions, so that a version of an older release has the same recipe still."""
        data: dict[str, Any] = handler(self)
        return {key: own for key, own in data.items() if key not in ADDED or getattr(self, key)}
