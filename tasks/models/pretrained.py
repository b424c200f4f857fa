"""Folders of transformers models: told apart, found or fetched, checked file by file, loaded from safetensors alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import nn
from transformers.utils import logging as transformers_logging

from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.tasks.models.generator_files import HALF, INDEX, check_safetensors, read_json, weight_files

FETCHED = ("*.json", "*.txt", "*.safetensors")  # never a pickle, never code

# What a directory of a recipe can be, as an error says it.
PIPELINE, CLIP, CLASSIFIER = "a diffusers pipeline", "a CLIP model", "an image classifier"
UNNAMED = "a model whose config.json names no architecture"


@contextmanager
def naming(field: str) -> Iterator[None]:
    """A ModelError from inside begins with the recipe's `field`."""
    try:
        yield
    except ModelError as error:
        if str(error).startswith(field):
            raise
        raise ModelError(f"{field}: {error}") from error


def require_kind(model: ResolvedModel, field: str, wanted: str, advice: str = "") -> None:
    """Errors: ModelError for a directory that plainly holds another kind; a hub model is checked when it loads.

    `wanted`: PIPELINE, CLIP or CLASSIFIER; `field`: of the recipe; `advice`: another way out.
    """
    folder = Path(model.path) / (model.subfolder or "")
    found = find_kind(folder)
    if found in (None, wanted) or (wanted == CLASSIFIER and found == UNNAMED):
        return
    inner = next(
        (child.name for child in sorted(folder.iterdir()) if child.is_dir() and find_kind(child) == wanted), ""
    )
    hint = f"; its folder {inner!r} is one: add subfolder: {inner}" if inner else ""
    raise ModelError(f"{field}: {folder} holds {found}, but {field} must be {wanted}{hint}{advice}")


def find_kind(folder: Path) -> str | None:
    """PIPELINE, CLIP, CLASSIFIER, UNNAMED or the class of something else; None where the files do not say."""
    if (folder / INDEX).is_file():
        return PIPELINE
    if not (folder / "config.json").is_file():
        return None
    config = read_json(folder / "config.json")
    named = config.get("architectures") or [config.get("_class_name", "")]
    name = str(named[0]) if isinstance(named, list) else ""
    if "ForImageClassification" in name:
        return CLASSIFIER
    if config.get("model_type") == "clip":
        return CLIP
    return f"a {name}" if name else UNNAMED


def pick_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def model_folder(model: ResolvedModel, role: str) -> Path:
    """Directory with the model's files; those of a pinned hub model are downloaded first. `role` is named in errors.

    Errors: ModelError.
    """
    folder = Path(model.path)
    if not folder.is_dir():
        if model.revision is None:
            raise ModelError(
                f"{role}: {folder} is not a directory, and a hub model needs a revision; give one of the two"
            )
        patterns = [f"{model.subfolder}/{name}" if model.subfolder else name for name in FETCHED]
        try:
            folder = Path(snapshot_download(model.path, revision=model.revision, allow_patterns=patterns))
        except Exception as error:  # the hub's client raises its own and its transport's kinds
            raise ModelError(
                f"{role}: hub model {model.path}@{model.revision} cannot be downloaded: {error}; check name, revision "
                "and connection, or name a local directory"
            ) from error
    folder = folder / (model.subfolder or "")
    if not folder.is_dir():
        raise ModelError(f"{role}: {folder} is missing; copy or download the model again")
    return folder


def load_weights(kind: Any, folder: Path, role: str) -> nn.Module:
    """A model of the transformers class `kind` in float32, ready for inference.

    Errors: ModelError that names the missing or broken file, or the weights that the files do not hold.
    """
    read_json(folder / "config.json")
    transformers_logging.disable_progress_bar()
    files = weight_files(folder, "model")
    for file in files:
        check_safetensors(file)
    try:
        model, found = kind.from_pretrained(
            folder,
            variant=HALF if all(f".{HALF}" in file.name for file in files) else None,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers and safetensors raise many kinds for one cause: these files do not fit
        raise ModelError(f"{role}: {folder} cannot be loaded as {kind.__name__}: {error}") from error
    if missing := sorted([*found["missing_keys"], *(str(entry[0]) for entry in found["mismatched_keys"])]):
        raise ModelError(
            f"{role}: {folder} is not a {kind.__name__}: {len(missing)} weights are missing or of another shape, "
            f"the first is {missing[0]}; name the right model or download it again"
        )
    ready: nn.Module = model.eval().requires_grad_(False).to(pick_device())
    return ready
