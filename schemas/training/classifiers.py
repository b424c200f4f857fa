"""Settings for training image classifiers: a teacher from labelled images, a student from a teacher."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tailforge.schemas.options import FIT, ROOT, Fit
from tailforge.schemas.settings.fields import FolderName, Place, Seconds, Seed, Strict, Words

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Width = Annotated[int, Field(ge=4, le=4096, multiple_of=4)]


class ClassifierTraining(Strict):
    """One run of SGD with momentum 0.9 and a cosine schedule. The defaults are usual for CIFAR."""

    steps: int = Field(ge=1, le=10_000_000, description="Optimiser steps.")
    batch: int = Field(128, ge=2, le=65_536, description="Images per step.")
    learning_rate: float = Field(
        0.1, gt=0, le=10, description="Highest learning rate, reached after a twentieth of the steps."
    )
    weight_decay: float = Field(5e-4, ge=0, le=1, description="Weight decay of SGD.")
    padding: int = Field(
        2, ge=0, le=64, description="Reflected pixels around an image before a view is cropped from it."
    )
    flip: bool = Field(False, description="Mirror half of the views; not for digits and letters.")
    bf16: bool = Field(False, description="Forward passes in bfloat16; weights stay float32.")
    seed: Seed = Field(0, description="Seed of weights, order and views.")


class DistillSettings(ClassifierTraining):
    """Training of a student on a teacher's outputs for augmented views."""

    steps: int = Field(1000, ge=1, le=10_000_000, description="Optimiser steps.")
    student: Literal["resnet-small", "resnet18"] = Field("resnet-small", description="Network of the student.")
    temperature: float = Field(4.0, gt=0, le=1000, description="Temperature of both softmaxes.")
    label_weight: float = Field(
        0.0, ge=0, le=1000, description="Weight of the cross entropy with the images' own labels."
    )


class WorkshopPictures(Strict):
    """Pictures that the workshop renders at twice the size and averages down, with one class per part."""

    kind: Literal["workshop"]
    train_per_part: Count = Field(description="Training pictures per part.")
    test_per_part: Count = Field(description="Test pictures per part.")
    seed: Seed = Field(description="Seed of the training scenes; the test scenes have the next one.")
    workers: int = Field(2, ge=1, le=256, description="Processes for rendering.")


class LabelledPictures(Strict):
    """Pictures of your own. Training uses the rows of split train, or all rows; the test uses those of split test."""

    kind: Literal["images"]
    path: Place | None = Field(
        None,
        description="Labelled images with splits train and test, relative to the recipe: a folder, a table, a COCO "
        "file or tars (docs/how-to/images.md). --images replaces it.",
    )
    root: Place | None = Field(None, description=ROOT)
    fit: Fit = Field("exact", description=FIT)


class TeacherModel(Strict):
    """The network; every architecture is a residual network with BatchNorm.

    resnet and regnet are models of transformers. Their first stage works at a quarter or half of the image's side.
    cifar_resnet is a torch module of Tailforge. Its first stage works at full size, as is usual for CIFAR.
    """

    architecture: Literal["resnet", "regnet", "cifar_resnet"] = Field(description="Kind of network.")
    widths: tuple[Width, ...] = Field(min_length=1, max_length=8, description="Channels per stage.")
    depths: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(
        min_length=1, max_length=8, description="Blocks per stage."
    )

    @model_validator(mode="after")
    def _one_depth_per_width(self) -> "TeacherModel":
        if len(self.widths) != len(self.depths):
            raise ValueError(f"{len(self.widths)} widths and {len(self.depths)} depths; give one of each per stage")
        return self


class TeacherRecipe(Strict):
    """A complete description of a teacher's weights."""

    kind: Literal["teacher"]
    name: FolderName = Field(description="Folder under catalog/models.")
    size_px: int = Field(ge=8, le=512, description="Height and width of the images, in pixels.")
    channels: Literal[1, 3] = Field(3, description="1: grey. 3: RGB.")
    pictures: WorkshopPictures | LabelledPictures = Field(discriminator="kind", description="Labelled images.")
    model: TeacherModel = Field(description="Network.")
    training: ClassifierTraining = Field(description="Optimisation.")
    threads: int = Field(
        2, ge=1, le=256, description="Threads of the training steps. The same number leads to the same bits."
    )
    checkpoint_every_s: Seconds = Field(60, description="Seconds between checkpoints.")
    notes: tuple[Words, ...] = Field((), description="Further lines of the model card.")

    @model_validator(mode="after")
    def _workshop_is_coloured(self) -> "TeacherRecipe":
        if self.pictures.kind == "workshop" and (self.channels != 3 or self.size_px % 8):
            raise ValueError("pictures of kind workshop need channels 3 and a size_px that is a multiple of 8")
        return self
