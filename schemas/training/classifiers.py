"""Settings of training image classifiers: a teacher from labelled images, a student from a teacher."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tailforge.schemas.settings.fields import Fit, FolderName, Place, Seconds, Seed, Strict, Words

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Width = Annotated[int, Field(ge=4, le=4096, multiple_of=4)]


class ClassifierTraining(Strict):
    """One run of SGD with momentum 0.9 and a cosine schedule; all choices of ours, the usual ones for CIFAR."""

    steps: int = Field(ge=1, le=10_000_000)
    batch: int = Field(128, ge=2, le=65_536)
    learning_rate: float = Field(0.1, gt=0, le=10, description="The highest; after a twentieth of the steps.")
    weight_decay: float = Field(5e-4, ge=0, le=1)
    padding: int = Field(
        2, ge=0, le=64, description="Views are cropped from the image with so many reflected pixels around it."
    )
    flip: bool = Field(False, description="Mirror half of the views; not for digits and letters.")
    bf16: bool = Field(False, description="Forward passes in bfloat16; weights stay float32.")
    seed: Seed = 0


class DistillSettings(ClassifierTraining):
    """How a student learns a teacher's outputs on augmented views."""

    steps: int = Field(1000, ge=1, le=10_000_000)
    student: Literal["resnet-small", "resnet18"] = "resnet-small"
    temperature: float = Field(4.0, gt=0, le=1000, description="Of the softmax on both sides.")
    label_weight: float = Field(0.0, ge=0, le=1000, description="Of the cross entropy with the images' own labels.")


class WorkshopPictures(Strict):
    """Pictures that the workshop renders at twice the size and that are averaged down, one class a part."""

    kind: Literal["workshop"]
    train_per_part: Count
    test_per_part: Count
    seed: Seed = Field(description="Of the training scenes; the test scenes have the next.")
    workers: int = Field(2, ge=1, le=256, description="Processes that render.")


class LabelledPictures(Strict):
    """Pictures of your own: training rows or all for training, test rows for the test."""

    kind: Literal["images"]
    path: Place | None = Field(
        None,
        description="Parquet file with columns split, label and image, or a folder with train and test in it, each of "
        "one folder a class; relative to the recipe. --images names it.",
    )
    fit: Fit = Field("exact", description="exact: images of another size are an error. crop: they are brought to it.")


class TeacherModel(Strict):
    """The network; every kind is a residual network with BatchNorm. `widths` and `depths`: of each stage.

    resnet and regnet are those of transformers; their first stage sees a quarter or half of the image's side.
    cifar_resnet is a torch module of Tailforge whose first stage sees the whole image, as is usual for CIFAR.
    """

    architecture: Literal["resnet", "regnet", "cifar_resnet"]
    widths: tuple[Width, ...] = Field(min_length=1, max_length=8)
    depths: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(min_length=1, max_length=8)

    @model_validator(mode="after")
    def _one_depth_a_width(self) -> "TeacherModel":
        if len(self.widths) != len(self.depths):
            raise ValueError(f"{len(self.widths)} widths and {len(self.depths)} depths; give one of each a stage")
        return self


class TeacherRecipe(Strict):
    """Everything that decides a teacher's weights."""

    kind: Literal["teacher"]
    name: FolderName = Field(description="Folder under catalog/models.")
    size_px: int = Field(ge=8, le=512, description="Height and width of the images.")
    channels: Literal[1, 3] = 3
    pictures: WorkshopPictures | LabelledPictures = Field(discriminator="kind")
    model: TeacherModel
    training: ClassifierTraining
    threads: int = Field(2, ge=1, le=256, description="Threads of the training steps; the same number, the same bits.")
    checkpoint_every_s: Seconds = 60
    notes: tuple[Words, ...] = Field((), description="What the model card should also say.")

    @model_validator(mode="after")
    def _workshop_is_coloured(self) -> "TeacherRecipe":
        if self.pictures.kind == "workshop" and (self.channels != 3 or self.size_px % 8):
            raise ValueError("pictures of kind workshop need channels 3 and a size_px that is a multiple of 8")
        return self
