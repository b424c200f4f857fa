"""Load a trained image classifier, of transformers or any torch module, as a teacher or verifier.

Mean, standard deviation, size and class names come from the recipe, or else from config.json and
preprocessor_config.json in the model's folder. Weights are safetensors, and no code from a hub runs.
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

ROLE = "generator"  # the teacher's key in a recipe
SHOWN, FEW = 30, 4  # most class names and weights in an error


@dataclass(frozen=True)
class Teacher:
    """A frozen classifier. The name of class k is `class_names[k]`; `digest` is that of its files.

    `naming`: the setting that would name its classes; None if they have names.
    """

    module: nn.Module
    preparation: Preparation
    class_names: tuple[str, ...]
    digest: str
    naming: str | None = None

    @property
    def mean(self) -> tuple[float, ...]:
        """Return the mean of each channel, for pixels in 0..1."""
        return self.preparation.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Return the standard deviation of each channel, for pixels in 0..1."""
        return self.preparation.std

    @property
    def size(self) -> tuple[int, int]:
        """Return the height and width of the input, in pixels."""
        return self.preparation.size

    @property
    def channels(self) -> int:
        """Return the number of channels of the input."""
        return self.preparation.channels

    def logits(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] of normalised images [N, channels, height, width]."""
        # A network returns the logits, an object with logits, or a tuple that begins with them.
        output = self.module(images)
        if hasattr(output, "logits"):
            output = output.logits
        logits: Tensor = output[0] if isinstance(output, tuple) else output
        return logits

    def label(self, name: str, *, by_place: bool = True) -> int:
        """Return the class of this name, or with this name in its list of names with commas; case does not count.

        With `by_place` a number is the place of a class, from 0, unless names of classes are numbers. Errors:
        RecipeError if no class or several classes have the name.
        """
        # The whole name counts before one of several names.
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

        # A number is the place of a class.
        places = by_place and not any(known.strip().isdecimal() for known in self.class_names)
        if places and wanted.isdecimal() and int(wanted) < len(self.class_names):
            return int(wanted)
        raise RecipeError(f"the classifier has no class {name!r}; {self._list_classes(name, places=places)}")

    def _list_classes(self, name: str, *, places: bool) -> str:
        """Return a sentence on the classes, with the names closest to `name`."""
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
    """Load a classifier that can be inverted, once per process.

    `code_folder`: the first place of `source.module`. `role`: the model's field in the recipe, for errors. Errors:
    ModelError that names the missing or damaged file, the missing field, or the class of a teacher without BatchNorm.
    """
    return _load_once(model, source, _Reading(role, code_folder, inverted=True))


def load_verifier(model: ResolvedModel, source: TeacherSource, code_folder: Path | None, role: str) -> Teacher:
    """Load any image classifier, with or without BatchNorm, once per process.

    Arguments as in `load_teacher`. Errors: ModelError that names the missing or damaged file or the missing field.
    """
    return _load_once(model, source, _Reading(role, code_folder, inverted=False))


def describe_classifier(model: ResolvedModel, source: TeacherSource, role: str) -> Teacher:
    """Return a classifier's preparation and class names without its weights. Names are empty if its files have none.

    Errors: ModelError as in `load_verifier`.
    """
    # The recipe's names come before those of the configuration.
    folder = model_folder(model, role)
    config = _read_config(folder, source, role)
    told = source.class_names or ()
    if not told and "id2label" in config:
        told = _read_names(config["id2label"], f"{folder / 'config.json'}: id2label")
    return Teacher(nn.Identity(), read_preparation(folder, config, source, role), told, model.digest)


@dataclass(frozen=True)
class _Reading:
    """The reading of a classifier: its name in errors, the folder of its code, and whether it needs BatchNorm."""

    role: str
    code_folder: Path | None
    inverted: bool


def _load_once(model: ResolvedModel, source: TeacherSource, reading: _Reading) -> Teacher:
    key = ("teacher", model.digest, source.model_dump_json(), reading)
    return load_once(key, lambda: _load(model, source, reading))


def _load(model: ResolvedModel, source: TeacherSource, reading: _Reading) -> Teacher:
    # The network, frozen, of transformers or of the user's code.
    role, folder = reading.role, model_folder(model, reading.role)
    config = _read_config(folder, source, role)
    if source.module is None:
        module = load_weights(AutoModelForImageClassification, folder, role)
    else:
        module = _load_plain(source.module, config.get("arguments", {}), folder, reading)
    freeze(module)
    if reading.inverted:
        require_batchnorm(module)

    # A trial pass on an image of the expected size counts the classes.
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
    """Read config.json, which a torch module of the user may lack. Errors: ModelError if it is of no model."""
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
    """Build a torch module of the user with these arguments and load its weights. Errors: ModelError."""
    # Check code and files before the call.
    role = reading.role
    if not isinstance(arguments, dict):
        raise ModelError(f"{folder / 'config.json'}: arguments is {arguments!r}; give an object of keyword arguments")
    build = import_callable(path, role, reading.code_folder)
    files = weight_files(folder, "model")
    for file in files:
        check_safetensors(file)

    # The user's code builds the module.
    try:
        module = build(**arguments)
    except Exception as error:  # the user's own code can raise anything
        raise ModelError(
            f"{role}.module: {path} called with {arguments or 'no arguments'} failed: {error!r}; if it needs "
            f"arguments, put them under `arguments` in {folder / 'config.json'}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{role}.module: {path} returns a {type(module).__name__}; it must return a torch module")

    # The weights must fit it exactly.
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
    """Load weights and describe those that are missing or unknown. Errors: RuntimeError for weights of other shapes."""
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
    # The recipe's names come first, then those of the configuration, then numbers.
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
            "name per class"
        )
    return names


def _read_names(table: object, origin: str) -> tuple[str, ...]:
    """Return names by number, from the table of transformers. Errors: ModelError for a class without number or name."""
    found = {str(key): value for key, value in table.items()} if isinstance(table, Mapping) else {}
    names = [found.get(str(place)) for place in range(len(found))]
    if not found or any(name is None or not str(name).strip() for name in names):
        raise ModelError(f"{origin} must name every class by its number, from 0; correct it")
    return tuple(str(name) for name in names)
