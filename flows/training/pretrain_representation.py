"""Find the version, regions and probe images that the user names for an encoder, and pre-train it.

A training is one piece of work with its own checkpoint, so this module orchestrates nothing.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from tailforge.catalog.images.reader import open_images
from tailforge.catalog.images.records import Images
from tailforge.catalog.images.versions import open_version_images
from tailforge.catalog.registry import NAME
from tailforge.catalog.sources.recipes import apply_override
from tailforge.catalog.user_paths import usable_path
from tailforge.flows.build.choose import split_reference
from tailforge.flows.terminal.training_progress import say_left_out, show_training
from tailforge.schemas.checks.mistakes import describe_mistakes
from tailforge.schemas.errors import ImagesError, RecipeError
from tailforge.schemas.options import Fit
from tailforge.schemas.training.pretraining import USES, AnyPretrainSettings
from tailforge.tasks.images.labelled import decode_images, open_labelled, refuse_shared
from tailforge.tasks.images.masked import open_masked, require_captions, require_fit
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tailforge.tasks.methods.packing.transforms import load_transforms
from tailforge.tasks.training.encoder import pretrain, probe_encoder
from tailforge.tasks.training.teacher import sort_names


def pretrain_representation(
    dataset: str,
    store: str,
    use: str,
    masks: str,
    out: Path,
    settings: Mapping[str, Any],
    overrides: Sequence[str] = (),
    split: str = "train",
    images: int | None = None,
    probe: str | None = None,
    fit: Fit = "exact",
    root: Path | None = None,
) -> dict[str, Any]:
    """Pre-train an encoder into `out` and return its report, with `folder` and, for a named probe, `probe`.

    `use`: contrastive, masked or caption; `masks`: attention, none, box, or a folder of <sample_id>.png.
    `settings`: fields
    of the use's model in schemas/training/pretraining.py, None for a default; `overrides`: other fields as key=value.
    `images` draws a random choice of so many from the split. `probe`: labelled images with train and test; `fit`:
    how to
    fit probe images of another size than the encoder's.
    `root`: folder that paths in a table of images start from.
    Errors: UserError of every kind, TrainingError.
    """
    chosen = parse_settings(use, settings, overrides)
    load_transforms("pre-training")
    out = usable_path(out, "--out")
    for option, named in (("--masks", masks), ("--probe", probe)):
        if named is not None:
            usable_path(named, option)

    opened = open_masked(_open_source(dataset, store, root), split, masks, images, chosen.seed)
    say_left_out(opened.origin, opened.left_out)
    require_fit(opened, chosen.batch, chosen.patch_px)
    if chosen.use == "caption":
        require_captions(opened)
    pictures = None if probe is None else _open_probe(probe, store, opened.pixels.shape[1], fit, root)

    with show_training(f"pretrain {use}", chosen.steps) as watch:
        report = pretrain(opened, chosen, out, watch)
    found = {} if pictures is None else {"probe": probe_encoder(out, *pictures)}
    return {"folder": str(out), **report, **found}


def parse_settings(use: str, settings: Mapping[str, Any], overrides: Sequence[str] = ()) -> AnyPretrainSettings:
    """Return the settings of a use. Errors: RecipeError naming the option or the key."""
    if use not in USES:
        close = difflib.get_close_matches(use, USES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise RecipeError(f"--use {use!r} is unknown; give {', '.join(USES)}{hint}")
    given = {key: value for key, value in settings.items() if value is not None}
    for override in overrides:
        apply_override(given, override)
    try:
        return USES[use].model_validate(given)
    except ValidationError as error:
        lines = describe_mistakes(error, USES[use], given)
        raise RecipeError("; ".join(_name_option(line, settings) for line in lines)) from error


def _name_option(line: str, settings: Mapping[str, Any]) -> str:
    """Return a mistake with the option's name in place of the setting's key."""
    key = line.partition(":")[0]
    return f"--{key.replace('_', '-')}{line[len(key) :]}" if key in settings else line


def _open_source(dataset: str, store: str, root: Path | None) -> Images:
    """Return the images of a version, or of a path that is neither a recipe nor a dataset's name."""
    name, _, _ = dataset.partition("@")
    if NAME.match(name) or dataset.endswith((".yaml", ".yml")) or not Path(dataset).exists():
        return open_version_images(store, *split_reference(dataset))
    return open_images(dataset, root=root)


def _open_probe(
    source: str, store: str, side: int, fit: Fit, root: Path | None
) -> tuple[Pictures, Pictures, str, tuple[str, ...]]:
    """Return training and test images of the encoder's size, their name in the report, and their classes.

    Errors: ImagesError if training and test images are the same.
    """
    training = open_labelled(source, "train", store, root=root)
    test = open_labelled(source, "test", store, training.origin, root)
    if training.origin == test.origin:
        raise ImagesError(
            f"--probe {source!r} does not separate training and test images; give a Parquet file with a column split, "
            "a folder with train and test in it, or a version with a split test"
        )
    names = sort_names(set(training.require_labels()))
    decoded = [_decode(each, names, side, fit) for each in (training, test)]
    refuse_shared(decoded[0], decoded[1], training.origin, test.origin)
    origin = Path(source).resolve().name if Path(source).exists() else source
    return decoded[0], decoded[1], origin, names


def _decode(images: Images, names: Sequence[str], side: int, fit: Fit) -> Pictures:
    """Return images of the encoder's size with class numbers. Errors: ImagesError for an unknown class."""

    def label_of(label: str) -> int:
        """Return the number of a class."""
        if label not in names:
            raise ImagesError(f"{images.origin} has class {label!r}, which no training image has")
        return names.index(label)

    return decode_images(images, label_of, (side, side), 3, np.arange(len(images)), fit)
