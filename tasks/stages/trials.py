"""Stage `trials`: one model trained on the images of an arm, and what validation says of it.

Not part of a build: `tailforge evaluate` makes trials. The weights of the chosen step are kept beside the table.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.torch import save

from tailforge.schemas.evaluation import DIGITS, WEIGHTS, Arm, FitSettings
from tailforge.schemas.tables import TRIALS
from tailforge.tasks.artifacts.contract import Address, Made
from tailforge.tasks.artifacts.stage import Stage, Workplace
from tailforge.tasks.methods.evaluation.adjust import STRENGTHS, Check
from tailforge.tasks.methods.evaluation.draws import plan_draws
from tailforge.tasks.methods.evaluation.examples import Examples
from tailforge.tasks.methods.evaluation.fit import Fitted, Validation, fit_model
from tailforge.tasks.methods.evaluation.models import Model
from tailforge.tasks.methods.evaluation.tasks import TASKS


@dataclass(frozen=True, eq=False)
class RealData:
    """The real images that models learn from and are chosen by. `rare`: numbers of the rare classes.

    `rows`: the rows of `train` that models learn from; None for all.
    """

    classes: tuple[str, ...]
    train: Examples
    validation: Examples
    rare: tuple[int, ...]
    rows: NDArray[np.int64] | None = None

    @property
    def learnt(self) -> Examples:
        """Return the images that models learn from; a copy if they are a part, so that it is not kept in memory."""
        return self.train if self.rows is None else self.train.select(self.rows)

    @cached_property
    def digest(self) -> str:
        """Return the sha256 (hex) of the images that models learn from."""
        return self.learnt.digest

    @cached_property
    def shown(self) -> NDArray[np.bool_]:
        """Return whether an image that models learn from shows a class, as `Examples.shown`."""
        return self.train.shown if self.rows is None else self.train.shown[self.rows]

    @cached_property
    def units(self) -> tuple[int, ...]:
        """Return the units per class that models learn from, as `Examples.units`."""
        return self.learnt.units

    @property
    def rare_images(self) -> int:
        """Return the number of images that show a rare class."""
        return int(self.shown[:, list(self.rare)].any(1).sum())


@dataclass(frozen=True, eq=False)
class Trial:
    """One training: an arm at one setting, with one seed. `synthetic`: images by the name of their version."""

    arm: Arm
    seed: int
    settings: FitSettings
    model: Model = field(repr=False)
    real: RealData = field(repr=False)
    synthetic: Mapping[str, Examples] = field(repr=False)

    @property
    def label(self) -> str:
        """Return the name of the trial for people."""
        part = "" if self.real.rows is None else f"{self.real.rare_images} images of rare classes"
        return ", ".join(each for each in (self.arm.name, self.arm.setting, part, f"seed {self.seed}") if each)

    @property
    def added(self) -> Examples:
        """Return the synthetic images of the arm; none without a version."""
        return self.synthetic[self.arm.source] if self.arm.source else self.real.train.select(slice(0))

    @property
    def strengths(self) -> Sequence[float]:
        """Return the strengths of adjustment that validation chooses from."""
        return STRENGTHS if self.arm.adjusted else (0.0,)

    @property
    def pool(self) -> Examples:
        """Return the images that the arm may draw: the real ones first, then the synthetic ones."""
        return self.real.learnt.joined(self.added) if self.arm.real else self.added


def locate(trial: Trial) -> Address:
    """Return the address of a trial. Arms of other names that draw the same images share it."""
    real = trial.real
    settings = {
        "arm": trial.arm.model_dump(mode="json", exclude={"name", "source"}),
        "seed": trial.seed,
        "training": trial.settings.model_dump(mode="json"),
        "classes": list(real.classes),
        "rare": list(real.rare),
        "strengths": list(trial.strengths),
    }
    inputs = {"train": real.digest, "validation": real.validation.digest, "added": trial.added.digest}
    return Address(STAGE, part=0, label=trial.label, settings=settings, inputs=inputs)


def produce(workplace: Workplace, trial: Trial) -> Made:
    """Train the model; return its measurements and keep the chosen weights.

    Errors: TrainingError for a loss that is not finite; StoreError.
    """
    fitted = fit_trial(trial)
    table = pa.Table.from_pylist([_row(each, fitted.chosen) for each in fitted.checks], TRIALS)
    data = save({key: value.contiguous() for key, value in fitted.weights.items()})
    uri = workplace.address.attachment_uri("safetensors")
    workplace.store.write_bytes(uri, data)
    entry = {"uri": uri, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return Made(table, details={"files": {WEIGHTS: entry}})


def fit_trial(trial: Trial) -> Fitted:
    """Return the trained model of a trial. Errors: TrainingError."""
    real, settings = trial.real, trial.settings
    drawn = plan_draws(trial.arm, real.shown, trial.added.shown, real.rare, settings.batch, trial.seed)
    validation = Validation(real.validation, real.units, trial.strengths)
    task, changes = TASKS[settings.task], trial.arm.augmentation
    return fit_model(trial.model, task, trial.pool, drawn, validation, changes, settings, trial.seed)


def _row(check: Check, chosen: Check) -> dict[str, Any]:
    return {
        "step": check.step,
        "strength": check.strength,
        "macro": round(check.macro, DIGITS),
        "scores": [round(value, DIGITS) for value in check.scores],
        "chosen": check == chosen,
    }


STAGE = Stage(name="trials", version="2", schema=TRIALS, locate=locate, produce=produce)
