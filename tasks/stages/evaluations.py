"""Stage `evaluations`: a trained model measured on the test images, once and after every choice.

Not part of a build: `tailforge evaluate` makes evaluations of the trials that validation chose.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.torch import load

from tailforge.schemas.evaluation import DIGITS, WEIGHTS
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.tables import EVALUATIONS
from tailforge.tasks.artifacts.contract import Address, Made, digest
from tailforge.tasks.artifacts.stage import Stage, Workplace
from tailforge.tasks.methods.evaluation.adjust import adjust_logits
from tailforge.tasks.methods.evaluation.examples import Examples
from tailforge.tasks.methods.evaluation.metrics import calibration_gaps, softmax
from tailforge.tasks.methods.evaluation.models import predict_parts
from tailforge.tasks.methods.evaluation.tasks import TASKS
from tailforge.tasks.stages.judges import read_chosen
from tailforge.tasks.stages.trials import Trial


@dataclass(frozen=True)
class Examination:
    """A finished trial and the test images, with their `names`."""

    trial: Trial
    receipt: Receipt
    test: Examples = field(repr=False)
    names: Sequence[str] = field(repr=False)


def locate(given: Examination) -> Address:
    """Return the address of the test of a trial."""
    weights = given.receipt.details["files"][WEIGHTS]["sha256"]
    settings = {"model": given.trial.settings.model, "frequencies": list(given.trial.real.units)}
    inputs = {
        "trial": given.receipt.sha256,
        "weights": weights,
        "test": given.test.digest,
        "names": digest(list(given.names)),
    }
    return Address(STAGE, part=0, label=given.trial.label, settings=settings, inputs=inputs)


def produce(workplace: Workplace, given: Examination) -> Made:
    """Return what the trained model finds in each test image. Errors: StoreError."""
    trial, test = given.trial, given.test
    chosen = read_chosen(workplace.store, given.receipt)
    network = trial.model.build(test.classes, trial.seed)
    network.load_state_dict(load(workplace.store.read(given.receipt.details["files"][WEIGHTS]["uri"])))

    # Only the decision and its confidence are kept of the logits.
    rows: list[dict[str, Any]] = []
    for part, logits in predict_parts(network, trial.model, test, TASKS[trial.settings.task].part):
        shares = softmax(adjust_logits(logits, trial.real.units, float(chosen["strength"])))
        rows += _count(test.label(part), shares.argmax(1), shares.max(1), test.classes)
    named = [{"image": name, **row} for name, row in zip(given.names, rows, strict=True)]
    return Made(pa.Table.from_pylist(named, EVALUATIONS))


def _count(
    labels: NDArray[np.int64], found: NDArray[np.int64], confidence: NDArray[np.float64], classes: int
) -> Iterator[dict[str, Any]]:
    """Yield the row of each image: its pairs of label and class found, and the gaps of their confidences."""
    for own, likeliest, sure in zip(labels, found, confidence, strict=True):
        known = own >= 0
        pairs, units = np.unique(own[known] * classes + likeliest[known], return_counts=True)
        gaps = calibration_gaps(np.atleast_1d(sure[known]), np.atleast_1d((own == likeliest)[known]))
        yield {
            "label": (pairs // classes).tolist(),
            "found": (pairs % classes).tolist(),
            "units": units.tolist(),
            "gaps": np.round(gaps, DIGITS).tolist(),
        }


STAGE = Stage(name="evaluations", version="2", schema=EVALUATIONS, locate=locate, produce=produce)
