"""Save and load training checkpoints, each one safetensors file on the local disk.

A checkpoint is replaced as a whole, so a kill leaves the old or the new one. It holds the digest of the training
recipe's settings, and another recipe's checkpoint is refused. The digest is a function of the step, so that later
phases may still be changed.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import TrainingError
from tailforge.tasks.methods.training_loop import Trainable

DigestAt = Callable[[int], str]


def beside(path: Path) -> Path:
    """Return the path of the temporary file that replaces `path`. A kill may leave that file."""
    return path.with_suffix(".tmp")


def save_checkpoint(path: Path, state: Mapping[str, Tensor], digest: str, seconds: float) -> None:
    """Write a checkpoint of tensors of any shape. `seconds`: wall time of the training so far.

    Errors: TrainingError if the checkpoint cannot be written; the earlier one stays.
    """
    # Write a temporary file and sync it, then rename it.
    path.parent.mkdir(parents=True, exist_ok=True)
    new = beside(path)
    whole = {key: value.contiguous() for key, value in state.items()}
    try:
        save_file(whole, new, {"settings": digest, "seconds": f"{seconds:.1f}"})
        with new.open("rb+") as file:
            os.fsync(file.fileno())
    except (SafetensorError, OSError) as error:
        new.unlink(missing_ok=True)
        raise TrainingError(
            f"checkpoint {path} cannot be written: {describe_failure(error)}; the one before it is kept: make room, "
            "then run the same command again"
        ) from error
    new.replace(path)


def load_checkpoint(path: Path, digest_at: DigestAt) -> dict[str, Tensor] | None:
    """Return the saved tensors, in the shapes that were saved, or None if there is no checkpoint.

    Errors: TrainingError if the file is damaged or belongs to other settings.
    """
    if not path.exists():
        return None

    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("settings")
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise TrainingError(f"checkpoint {path} is damaged: {error}; remove it to start this stage again") from error

    # The settings must be those of today for the step that was reached.
    expected = digest_at(int(state["step"]))
    if found != expected:
        raise TrainingError(
            f"checkpoint {path} was made under other settings ({found}, now {expected}); "
            "restore the training recipe, or remove the file to start this stage again"
        )
    return state


def read_seconds(path: Path) -> float:
    """Return the wall time of a checkpoint's training over all runs, or 0 if there is no checkpoint."""
    if not path.exists():
        return 0.0
    with safe_open(path, framework="pt") as file:
        return float((file.metadata() or {}).get("seconds", 0.0))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by way of a temporary one. A kill or a full disk leaves the old or the new file."""
    new = beside(path)
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


class Checkpointer:
    """A callback of a training that saves the learner every `every_s` seconds of wall time."""

    def __init__(self, path: Path, digest_at: DigestAt, every_s: float) -> None:
        self.path = path
        self.digest_at = digest_at
        self.every_s = every_s
        self._last = self._started = time.monotonic()
        self._seconds_before = read_seconds(path)

    @property
    def seconds(self) -> float:
        """Return the wall time of the training, earlier runs included."""
        return self._seconds_before + time.monotonic() - self._started

    def __call__(self, learner: Trainable) -> bool:
        """Save if `every_s` seconds have passed, and return whether it saved. Errors: TrainingError."""
        if time.monotonic() - self._last < self.every_s:
            return False
        self.save(learner)
        return True

    def save(self, learner: Trainable) -> None:
        """Save the learner now. Errors: TrainingError if the checkpoint cannot be written."""
        save_checkpoint(self.path, learner.state(), self.digest_at(learner.step), self.seconds)
        self._last = time.monotonic()
