"""Read the preparation of a classifier's images from its files: mean, standard deviation and size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailforge.schemas.errors import ModelError
from tailforge.schemas.settings.inversion import TeacherSource
from tailforge.tasks.models.generator_files import read_json

RESCALE = 1 / 255
PROCESSOR_KEYS = {"mean": "image_mean", "std": "image_std", "size": "size"}


@dataclass(frozen=True)
class Preparation:
    """The images of a classifier: `mean` and `std` per channel for pixels in 0..1, `size` (height, width) in pixels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]

    @property
    def channels(self) -> int:
        """Return the number of channels: 1 for grey pictures, 3 for colour."""
        return len(self.mean)


def read_preparation(folder: Path, config: Mapping[str, Any], source: TeacherSource, role: str) -> Preparation:
    """Return the preparation from the recipe, else from preprocessor_config.json, processor_config.json or config.json.

    Errors: ModelError that names the missing field.
    """
    # Mean and deviation in files are for rescaled pixels, so both are converted to pixels in 0..1.
    processor = _processor(folder)
    channels = int(config["num_channels"]) if "num_channels" in config else None
    scale = 255 * (float(processor.get("rescale_factor", RESCALE)) if processor.get("do_rescale", True) else 1.0)
    mean, std = _numbers(source.mean), _numbers(source.std)
    if mean is None:
        mean = _scaled(_normalisation(processor, "image_mean", 0.0, channels), scale)
    if std is None:
        std = _scaled(_normalisation(processor, "image_std", 1.0, channels), scale)

    # Every field must be known, with one mean and one deviation per channel.
    size = source.size or _size(processor) or _square(config.get("image_size"))
    for field, value in (("mean", mean), ("std", std), ("size", size)):
        if value is None:
            recipe = f"give {role}.{field} in the recipe, or " if is_key(role) else ""
            raise ModelError(
                f"{role}: {folder} does not give the {field} of its images; {recipe}"
                "write preprocessor_config.json with image_mean, image_std and size"
            )
    if not len(mean or ()) == len(std or ()) == (channels or len(mean or ())):
        raise ModelError(
            f"{role}: {len(mean or ())} means, {len(std or ())} deviations and {channels or len(mean or ())} channels; "
            f"give one of each per channel in {name_settings(role, 'mean', 'std')}"
        )
    return Preparation(mean or (), std or (), size or (0, 0))


def is_key(role: str) -> bool:
    """Return whether `role` is a key of a recipe, such as quality.verifier, and not an option, such as --teacher."""
    return role.replace(".", "_").isidentifier()


def name_settings(role: str, *fields: str) -> str:
    """Return the settings that a user can change: keys of the recipe, or else of preprocessor_config.json."""
    *first, last = [f"{role}.{field}" if is_key(role) else PROCESSOR_KEYS[field] for field in fields]
    return f"{', '.join(first)} and {last}" + ("" if is_key(role) else " in preprocessor_config.json")


def _processor(folder: Path) -> Mapping[str, Any]:
    if (folder / "preprocessor_config.json").is_file():
        return read_json(folder / "preprocessor_config.json")
    whole = read_optional(folder / "processor_config.json")
    inner: Mapping[str, Any] = whole.get("image_processor", {})
    return inner


def _normalisation(
    processor: Mapping[str, Any], key: str, without: float, channels: int | None
) -> Sequence[float] | None:
    """Return the processor's numbers per channel, or `without` for each if it does not normalise."""
    if processor and not processor.get("do_normalize", True):
        return [without] * (channels or 3)
    return processor.get(key)


def _scaled(value: Sequence[float] | None, scale: float) -> tuple[float, ...] | None:
    """Convert numbers for pixels in 0..`scale` to numbers for pixels in 0..1."""
    return None if value is None else tuple(float(number) / scale for number in value)


def _numbers(value: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if value is None else tuple(float(number) for number in value)


def _size(processor: Mapping[str, Any]) -> tuple[int, int] | None:
    crop = processor.get("crop_size") if processor.get("do_center_crop", "crop_size" in processor) else None
    return _square(crop) or _square(processor.get("size"))


def _square(value: Any) -> tuple[int, int] | None:
    """Return (height, width) from the forms of transformers: a number, a list or an object. None for anything else."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, list | tuple) and len(value) == 2:
        return int(value[0]), int(value[1])
    if isinstance(value, dict):
        side = value.get("shortest_edge")
        height, width = value.get("height", side), value.get("width", side)
        return (int(height), int(width)) if height and width else None
    return None


def read_optional(path: Path) -> dict[str, Any]:
    """Read a JSON object; without a file it is empty. Errors: ModelError if the file holds anything else."""
    return read_json(path) if path.is_file() else {}
