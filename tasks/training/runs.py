"""Run a training in a folder of its own. It resumes at its checkpoint and is finished when its report is there."""

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tailforge.schemas.documents.foreign_json import parse_object
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import TrainingError, UserError
from tailforge.schemas.under_way import Watch
from tailforge.tasks.methods.training_loop import Observe, Saved, Trainable
from tailforge.tasks.models.checkpoints import Checkpointer, DigestAt, beside, load_checkpoint, write_whole

REPORT = "report.json"
CHECKPOINT = "checkpoint.safetensors"
RECEIPT = "receipt.json"

Trained = TypeVar("Trained")


@contextmanager
def hold_folder(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder for this training alone; the lock ends with the process. `wait`: until it is free.

    Errors: TrainingError if it is held.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise TrainingError(
                f"another training works in {folder}; wait until it is done, or give another folder by --work"
            ) from error
        yield


def find_report(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the report of a finished training with this key, or None if the folder is free or holds an unfinished one.

    The folder is made if it is missing. Errors: UserError if it cannot be made or holds anything else.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"folder {folder} cannot be made: {describe_failure(error)}; name another") from error

    # A report of another key is of a finished model that must not be replaced.
    if (folder / REPORT).is_file():
        report = _read_report(folder / REPORT)
        if report.get("key") == key:
            return report
        raise UserError(
            f"{folder} holds a finished model of other settings or inputs (images, masks, teacher); name another "
            "folder or remove it"
        )

    # Without a checkpoint, only half-written files of a training may be there.
    unfinished = {beside(folder / name) for name in (CHECKPOINT, REPORT)}
    if not (folder / CHECKPOINT).exists() and set(folder.iterdir()) - unfinished:
        raise UserError(f"folder {folder} holds files that are not of a training; name another folder")
    return None


def _read_report(path: Path) -> dict[str, Any]:
    """Return the report in a file. Errors: UserError for anything else."""
    try:
        return parse_object(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is no report of a training: {error}; name another folder or remove it") from error


def run_training(
    checkpoint: Path,
    digest_at: DigestAt,
    every_s: float,
    steps: int,
    train: Callable[[Saved, Observe], Trained],
    after_step: Observe,
    writes: bool = True,
) -> tuple[Trained, float]:
    """Return the result of `train(saved, observe)`, which starts from the checkpoint if there is one, and its seconds.

    The seconds are those of all runs. `digest_at`: the settings that a checkpoint at a step depends on. `after_step` is
    called after each step and before its checkpoint, which is written every `every_s` seconds and after the last of the
    `steps`. Only the process that `writes` saves checkpoints. Errors: TrainingError.
    """
    saved = load_checkpoint(checkpoint, digest_at)
    checkpointer = Checkpointer(checkpoint, digest_at, every_s)

    def observe(learner: Trainable, loss: float) -> None:
        after_step(learner, loss)
        if writes:
            checkpointer.save(learner) if learner.step == steps else checkpointer(learner)

    trained = train(saved, observe)
    return trained, checkpointer.seconds


def run_in_folder(
    folder: Path, key: str, every_s: float, steps: int, train: Callable[[Saved, Observe], Trained], watch: Watch
) -> tuple[Trained, float]:
    """Run a training as `run_training` does, with the folder's checkpoint, all of whose settings are in `key`."""

    def after_step(learner: Trainable, loss: float) -> None:
        watch(learner.step, loss)

    return run_training(folder / CHECKPOINT, lambda step: key, every_s, steps, train, after_step)


def finish_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write the report, which says that the model is finished, then remove the checkpoint."""
    write_whole(folder / REPORT, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    (folder / CHECKPOINT).unlink(missing_ok=True)


def finish_once(folder: Path, key: str, produce: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Return the receipt of a stage in a folder of its own. Unless it is finished, `produce(folder)` does the work.

    The receipt is written last, with the key of everything that decided the result. A receipt of another key is removed
    first, since a killed run would otherwise leave it beside files of this key.
    """
    if found := find_receipt(folder, key):
        return found
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECEIPT).unlink(missing_ok=True)
    content = {"key": key, **produce(folder)}
    write_whole(folder / RECEIPT, json.dumps(content, indent=1).encode())
    return content


def find_receipt(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the receipt of a stage that was finished with this key, or None."""
    if not (folder / RECEIPT).is_file():
        return None
    found: dict[str, Any] = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
    return found if found["key"] == key else None
