"""Find, download, check and load models of transformers. Weights load from safetensors only."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import nn
from transformers.utils import logging as transformers_logging

from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.tasks.models.generator_files import HALF, check_safetensors, read_json, weight_files

FETCHED = ("*.json", "*.txt", "*.safetensors")  # files to download: no pickle and no code


def pick_device() -> torch.device:
    """Return CUDA if there is a device, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def model_folder(model: ResolvedModel, role: str) -> Path:
    """Return the directory of a model's files. Those of a hub model are downloaded first.

    `role`: the model's field in the recipe, for errors. Errors: ModelError for a missing directory, a hub model without
    a revision or a failed download.
    """
    # A path that is no directory is a hub model.
    folder = Path(model.path)
    if not folder.is_dir():
        if model.revision is None:
            raise ModelError(
                f"{role}: {folder} is not a directory, and a hub model needs a revision; correct the path or add a "
                "revision"
            )
        patterns = [f"{model.subfolder}/{name}" if model.subfolder else name for name in FETCHED]
        try:
            folder = Path(snapshot_download(model.path, revision=model.revision, allow_patterns=patterns))
        except Exception as error:  # the hub's client raises classes of its own and of its transport
            raise ModelError(
                f"{role}: hub model {model.path}@{model.revision} cannot be downloaded: {error}; check name, revision "
                "and connection, or name a local directory"
            ) from error

    folder = folder / (model.subfolder or "")
    if not folder.is_dir():
        raise ModelError(f"{role}: {folder} is missing; copy or download the model again")
    return folder


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence the list of unused or new weights, such as a head's, inside the block."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def load_weights(kind: Any, folder: Path, role: str) -> nn.Module:
    """Load a model of the transformers class `kind` in float32, frozen, in evaluation mode, on the best device.

    Errors: ModelError that names the missing or damaged file, or the missing weights.
    """
    # transformers would fill missing weights with random numbers.
    model, lacking = read_weights(kind, folder, role)
    refuse_lacking(kind, folder, role, lacking)
    ready: nn.Module = model.eval().requires_grad_(False).to(pick_device())
    return ready


def read_weights(kind: Any, folder: Path, role: str, **changes: Any) -> tuple[nn.Module, list[str]]:
    """Return a model of the transformers class `kind` in float32, and the weights that its files lack.

    These weights are missing or of another shape, and drawn at random. `changes`: of `from_pretrained`. Errors:
    ModelError that names the missing or damaged file.
    """
    # Check the files first: errors of the library do not name them.
    read_json(folder / "config.json")
    transformers_logging.disable_progress_bar()
    files = weight_files(folder, "model")
    for file in files:
        check_safetensors(file)

    # Local files only, and no remote code.
    try:
        model, found = kind.from_pretrained(
            folder,
            variant=HALF if all(f".{HALF}" in file.name for file in files) else None,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **changes,
        )
    except Exception as error:  # transformers and safetensors raise many classes for files that do not fit
        raise ModelError(f"{role}: {folder} cannot be loaded as {kind.__name__}: {error}") from error
    return model, sorted([*found["missing_keys"], *(str(entry[0]) for entry in found["mismatched_keys"])])


def refuse_lacking(kind: Any, folder: Path, role: str, lacking: Sequence[str]) -> None:
    """Refuse a model whose files lack weights, by a ModelError."""
    if lacking:
        raise ModelError(
            f"{role}: {folder} is not a {kind.__name__}: {len(lacking)} weights are missing or of another shape, "
            f"the first is {lacking[0]}; name the right model or download it again"
        )
