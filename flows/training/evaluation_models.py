"""Find the model that an evaluation trains: a preset of its task, or a model of transformers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tailforge.catalog.images.records import Images
from tailforge.catalog.inspection.sizes import Sizes
from tailforge.catalog.sources.models import name_model, resolve_model
from tailforge.schemas.errors import ModelError
from tailforge.schemas.evaluation import EvaluationSettings, FitSettings
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.options import Fit
from tailforge.schemas.settings.fields import ModelSource
from tailforge.tasks.images.evaluated import choose_format
from tailforge.tasks.images.targets import Format
from tailforge.tasks.methods.evaluation.models import Model, preset_model
from tailforge.tasks.methods.evaluation.task import Preset, Task
from tailforge.tasks.models.evaluated import OPTION, LibraryModel

Size = tuple[int, int] | None
ANY_SIZE = (1, 1 << 16)  # sides that a model of transformers may read; a trial pass tells


class Candidate(Protocol):
    """A model before its images are known."""

    def choose_format(self, real: Mapping[str, Images], drawn: Sizes, size: Size, fit: Fit | None) -> Format:
        """Return the format of its images. `size` (height, width) and `fit`: as a person asks. Errors: ImagesError."""

    def open_model(self, wanted: Format) -> Model:
        """Return the model for images of a format. Errors: ModelError."""


@dataclass(frozen=True)
class PresetCandidate:
    """A preset: it reads the images' own size and channels."""

    name: str
    preset: Preset

    def choose_format(self, real: Mapping[str, Images], drawn: Sizes, size: Size, fit: Fit | None) -> Format:
        """Return the format of the training images. Errors: ImagesError for a size that the preset does not read."""
        return choose_format(real, size, fit, (self.preset.smallest, self.preset.largest), self.name, drawn=drawn)

    def open_model(self, wanted: Format) -> Model:
        """Return the model."""
        return preset_model(self.name, self.preset, wanted.channels)


@dataclass(frozen=True)
class LibraryCandidate:
    """A model of transformers: its image processor decides size and channels."""

    name: str
    task: Task
    library: LibraryModel

    def choose_format(self, real: Mapping[str, Images], drawn: Sizes, size: Size, fit: Fit | None) -> Format:
        """Return the format of the image processor, at `size` if that is given. Errors: ImagesError."""
        preparation, wanted = self.library.preparation, size or self.library.preparation.size
        chosen = choose_format(real, wanted, fit, ANY_SIZE, self.name, drawn=drawn)
        return Format(wanted, preparation.channels, chosen.fit)

    def open_model(self, wanted: Format) -> Model:
        """Return the model after a trial pass. Errors: ModelError for a model that does not read the images."""
        self.library.try_out(wanted.size)
        preparation, habits = self.library.preparation, self.task.habits[self.library.from_scratch]
        digest = self.library.resolved.digest
        return Model(self.name, digest, preparation.mean, preparation.std, habits, self.library.build)


def find_candidate(task: Task, settings: EvaluationSettings) -> Candidate:
    """Return the model that the settings name: a preset, a folder, or owner/name@commit. Errors: ModelError."""
    name = settings.model or next(iter(task.presets))
    if name in task.presets:
        return PresetCandidate(name, task.presets[name])
    try:
        place, revision = name_model(name, OPTION)
        resolved = resolve_model(ModelSource(model=place, revision=revision), Path.cwd(), OPTION)
    except ModelError as error:
        raise ModelError(f"{error}; the presets of {task.name} are: {', '.join(task.presets)}") from error
    library = LibraryModel.open(resolved, task, settings.from_scratch)
    return LibraryCandidate(_show(resolved), task, library)


def complete_settings(task: Task, model: Model, settings: EvaluationSettings) -> FitSettings:
    """Return the settings of one training; those that nobody chose are the model's own."""
    habits = model.habits
    return FitSettings(
        task=task.name,
        model=model.name,
        digest=model.digest,
        from_scratch=settings.from_scratch or not model.digest,
        optimizer=habits.optimizer,
        steps=settings.steps,
        batch=settings.batch or habits.batch,
        learning_rate=settings.learning_rate or habits.learning_rate,
        weight_decay=habits.weight_decay,
        checks=settings.checks,
    )


def _show(model: ResolvedModel) -> str:
    """Return the model's name for a record: a hub id with its commit, or the folder without its parents."""
    return f"{model.path}@{model.revision}" if model.revision else Path(model.path).name
