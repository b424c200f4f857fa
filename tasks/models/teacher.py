"""A trained image classifier as the teacher that natural_inversion speaks to: of transformers, or any torch module.

Mean, standard deviation, size and class names are the model's own: from config.json and preprocessor_config.json of
its folder, whoever wrote them; the recipe's come first. Weights are safetensors, code from a hub is never run.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForImageClassification

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.settings.fields import look
from tailforge.schemas.settings.inversion import TeacherSource
from tailforge.tasks.methods.natural_inversion.taps import examine, freeze, require_batchnorm
from tailforge.tasks.models.cache import load_once
from tailforge.tasks.models.generator_files import SAVE_MODULE, check_safetensors, read_json, weight_files
from tailforge.tasks.models.preparation import Preparation, is_key, name_settings, read_optional, read_preparation
from tailforge.tasks.models.pretrained import load_weights, model_folder, pick_device
from tailforge.tasks.models.user_code import import_callable

ROLE = "generator"  # what a recipe calls a teacher
SHOWN, FEW = 30, 4  # class names and weights in an error


@dataclass(frozen=True)
class Teacher:
    """A frozen classifier; class k is `class_names[k]`. `digest` stands for its files.

    `naming`: how its classes could be given names; None where they have them.
    """

    module: nn.Module
    preparation: Preparation
    class_names: tuple[str, ...]
    digest: str
    naming: str | None = None

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each channel, pixels in 0..1."""
        return self.preparation.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Of each channel, pixels in 0..1."""
        return self.preparation.std

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.preparation.size

    @property
    def channels(self) -> int:
        """Of the input."""
        return self.preparation.channels

    def logits(self, images: Tensor) -> Tensor:
        """[N, classes] of normalised images [N, channels, height, width]."""
        output = self.module(images)
        if hasattr(output, "logits"):
            output = output.logits
        logits: Tensor = output[0] if isinstance(output, tuple) else output
        return logits

    def label(self, name: str, *, by_place: bool = True) -> int:
        """The class of this name, or of one of its names where they are listed with commas; case does not matter.

        With `by_place` a number that is no name is the place of a class, from 0, unless other names are numbers.
        Errors: RecipeError if it has no such class, or several.
        """
        wanted = look(name)
        whole = [place for place, known in enumerate(self.class_names) if look(known) == wanted]
        found = whole or [
            place for place, known in enumerate(self.class_names) if wanted in map(look, known.split(","))
        ]
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(f"{place}: {self.class_names[place]!r}" for place in found)
            raise RecipeError(f"{name!r} is the name of {len(found)} of the classifier's classes ({several}); use the "
                              "whole name of one")  # fmt: skip
        places = by_place and not any(known.strip().isdecimal() for known in self.class_names)
        if places and wanted.isdecimal() and int(wanted) < len(self.class_names):
            return int(wanted)
        raise RecipeError(f"the classifier has no class {name!r}; {self._list_classes(name, places=places)}")

    def _list_classes(self, name: str, *, places: bool) -> str:
        """What classes there are, for one who asked for `name`."""
        count = len(self.class_names)
        if self.naming:
            return f"its {count} classes have no names, only numbers, 0 to {count - 1}; name them by {self.naming}"
        close = difflib.get_close_matches(name, self.class_names, n=3, cutoff=0.5)
        shown = ", ".join(self.class_names[:SHOWN]) + (", ..." if len(self.class_names) > SHOWN else "")
        hint = f"closest: {', '.join(close)}; " if close else ""
        ways = f"; name one, or give its place, 0 to {count - 1}" if places else ""
        return f"{hint}it has {count}: {shown}{ways}"


def load_teacher(
    model: ResolvedModel, source: TeacherSource, code_folder: Path | None = None, role: str = ROLE
) -> Teacher:
    """A classifier that can be inverted, loaded once a process.

    `code_folder`: where `source.module` is looked for first; `role`: what errors call it. Errors: ModelError that names
    the missing or broken file, the field to fill in, or the class of a teacher that has no BatchNorm.
    """
    return _load_once(model, source, _Reading(role, code_folder, inverted=True))


def load_verifier(model: ResolvedModel, source: TeacherSource, code_folder: Path | None, role: str) -> Teacher:
    """Any image classifier; otherwise as `load_teacher`."""
    return _load_once(model, source, _Reading(role, code_folder, inverted=False))


def describe_classifier(model: ResolvedModel, source: TeacherSource, role: str) -> Teacher:
    """The classifier without its weights: what images it reads, and its classes, none where its files name none.

    Errors: ModelError, as `load_verifier`.
    """
    folder = model_folder(model, role)
    config = _read_config(folder, source, role)
    told = source.class_names or ()
    if not told and "id2label" in config:
        told = _read_names(config["id2label"], f"{folder / 'config.json'}: id2label")
    return Teacher(nn.Identity(), read_preparation(folder, config, source, role), told, model.digest)


@dataclass(frozen=True)
class _Reading:
    """How a classifier is read: what errors call it, where its code is, and whether it must have BatchNorm."""

    role: str
    code_folder: Path | None
    inverted: bool


def _load_once(model: ResolvedModel, source: TeacherSource, reading: _Reading) -> Teacher:
    key = ("teacher", model.digest, source.model_dump_json(), reading)
    return load_once(key, lambda: _load(model, source, reading))


def _load(model: ResolvedModel, source: TeacherSource, reading: _Reading) -> Teacher:
    role, folder = reading.role, model_folder(model, reading.role)
    config = _read_config(folder, source, role)
    if source.module is None:
        module = load_weights(AutoModelForImageClassification, folder, role)
    else:
        module = _load_plain(source.module, config.get("arguments", {}), folder, reading)
    freeze(module)
    if reading.inverted:
        require_batchnorm(module)
    teacher = Teacher(module, read_preparation(folder, config, source, role), (), model.digest)
    try:
        classes = examine(teacher).classes if reading.inverted else _count_classes(teacher)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ModelError(
            f"{role}: {type(module).__name__} fails on images of {_plural(teacher.channels, 'channel')} and "
            f"{teacher.size[0]} x {teacher.size[1]} pixels: {error}; check "
            f"{name_settings(role, 'mean', 'std', 'size')}"
        ) from error
    names = _class_names(config, source, classes, folder, role)
    naming = f"id2label in {folder / 'config.json'}" + (f" or by {role}.class_names" if is_key(role) else "")
    named = source.class_names is not None or "id2label" in config
    return Teacher(module, teacher.preparation, names, model.digest, None if named else naming)


@torch.no_grad()
def _count_classes(classifier: Teacher) -> int:
    device = next(classifier.module.parameters()).device
    logits = classifier.logits(torch.zeros(1, classifier.channels, *classifier.size, device=device))
    if logits.ndim != 2:
        raise ValueError(f"it returns {list(logits.shape)}; a classifier returns logits [images, classes]")
    return logits.shape[1]


def _read_config(folder: Path, source: TeacherSource, role: str) -> dict[str, Any]:
    """config.json; a torch module of the user's own may lack it. Errors: ModelError, also where it is of no model."""
    if source.module:
        return read_optional(folder / "config.json")
    config = read_json(folder / "config.json")
    if "model_type" not in config:
        raise ModelError(
            f"{folder / 'config.json'} names no model_type, so it is no transformers model; a torch module of your own "
            f"needs {role}.module (package.module:callable)"
        )
    return config


def _load_plain(path: str, arguments: Any, folder: Path, reading: _Reading) -> nn.Module:
    role = reading.role
    if not isinstance(arguments, dict):
        raise ModelError(f"{folder / 'config.json'}: arguments is {arguments!r}; give an object of keyword arguments")
    build = import_callable(path, role, reading.code_folder)
    files = weight_files(folder, "model")
    for file in files:
        check_safetensors(file)
    try:
        module = build(**arguments)
    except Exception as error:  # the user's own code can raise anything
        raise ModelError(
            f"{role}.module: {path} called with {arguments or 'no arguments'} failed: {error!r}; if it needs "
            f"arguments, put them under `arguments` in {folder / 'config.json'}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{role}.module: {path} returns a {type(module).__name__}; it must return a torch module")
    try:
        differences = _load_weights(module, files)
    except (SafetensorError, OSError, RuntimeError) as error:
        differences = [_shorten(str(error).splitlines(), "\n")]
    if differences:
        raise ModelError(
            f"{role}: weights of {folder} do not fit the {type(module).__name__} of {path}: {'; '.join(differences)}; "
            f"save the weights {SAVE_MODULE}"
        )
    return module.float().to(pick_device())


def _load_weights(module: nn.Module, files: Sequence[Path]) -> list[str]:
    """Weights that are missing and that are too many, in words. Errors: RuntimeError for weights of another shape."""
    weights = {key: value for file in files for key, value in load_file(file).items()}
    missing, unexpected = module.load_state_dict(weights, strict=False)
    found = (("it lacks", missing), ("the module has no", unexpected))
    return [f"{what} {_shorten(keys, ', ')}" for what, keys in found if keys]


def _shorten(parts: Sequence[str], between: str) -> str:
    more = [f"and {len(parts) - FEW} more"] if len(parts) > FEW else []
    return between.join([*parts[:FEW], *more])


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _class_names(
    config: Mapping[str, Any], source: TeacherSource, classes: int, folder: Path, role: str
) -> tuple[str, ...]:
    if source.class_names is not None:
        names, origin = source.class_names, f"{role}.class_names"
    elif "id2label" in config:
        origin = f"{folder / 'config.json'}: id2label"
        names = _read_names(config["id2label"], origin)
    else:
        return tuple(str(place) for place in range(classes))
    if len(names) != classes:
        raise ModelError(
            f"{origin} has {count_of(len(names), 'name')}, the classifier has {count_of(classes, 'class')}; give one "
            "name a class"
        )
    return names


def _read_names(table: object, origin: str) -> tuple[str, ...]:
    """Names by number, as transformers writes them. Errors: ModelError for a class without number or name."""
    found = {str(key): value for key, value in table.items()} if isinstance(table, Mapping) else {}
    names = [found.get(str(place)) for place in range(len(found))]
    if not found or any(name is None or not str(name).strip() for name in names):
        raise ModelError(f"{origin} does not give each class a name, by its number from 0 on; mend it")
    return tuple(str(name) for name in names)
