"""Stage `evaluations`: a trained classifier measured on the test images, once and after every choice.

Not part of a build: `tailforge evaluate` makes evaluations of the trials that validation chose.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from safetensors.torch import load

from tailforge.catalog.store import Store
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.tables import EVALUATIONS
from tailforge.tasks.artifacts.contract import Address, Made, read_table
from tailforge.tasks.artifacts.stage import Stage, Workplace
from tailforge.tasks.methods.classifiers.train import Pictures
from tailforge.tasks.methods.evaluation.adjust import adjust_logits
from tailforge.tasks.methods.evaluation.fit import predict_logits
from tailforge.tasks.methods.evaluation.metrics import softmax
from tailforge.tasks.methods.evaluation.networks import build_network
from tailforge.tasks.stages.trials import DIGITS, WEIGHTS, Trial


@dataclass(frozen=True)
class Examination:
    """A finished trial and the test images, with their `names`."""

    trial: Trial
    receipt: Receipt
    test: Pictures = field(repr=False)
    names: Sequence[str] = field(repr=False)


def locate(given: Examination) -> Address:
    """Return the address of the test of a trial."""
    weights = given.receipt.details["files"][WEIGHTS]["sha256"]
    settings = {"model": given.trial.settings.model, "counts": list(given.trial.real.counts)}
    inputs = {"trial": given.receipt.sha256, "weights": weights, "test": given.test.digest}
    return Address(STAGE, part=0, label=given.trial.label, settings=settings, inputs=inputs)


def produce(workplace: Workplace, given: Examination) -> Made:
    """Return what the trained classifier finds in each test image. Errors: StoreError."""
    trial, test = given.trial, given.test
    chosen = read_chosen(workplace.store, given.receipt)
    network = build_network(trial.settings.model, len(trial.real.classes), test.images.shape[-1], trial.seed)
    network.load_state_dict(load(workplace.store.read(given.receipt.details["files"][WEIGHTS]["uri"])))

    logits = adjust_logits(predict_logits(network, test.images), trial.real.counts, chosen["strength"])
    shares, found = softmax(logits), logits.argmax(1)
    rows = {
        "image": list(given.names),
        "label": test.labels.astype(np.int32),
        "found": found.astype(np.int32),
        "confidence": np.round(shares[np.arange(len(found)), found], DIGITS),
    }
    return Made(pa.table(rows, schema=EVALUATIONS))


def read_chosen(store: Store, receipt: Receipt) -> dict[str, float]:
    """Return the row of TRIALS that validation chose. Errors: StoreError, DamagedArtifactError."""
    rows: list[dict[str, float]] = read_table(store, receipt).to_pylist()
    return next(row for row in rows if row["chosen"])


STAGE = Stage(name="evaluations", version="1", schema=EVALUATIONS, locate=locate, produce=produce)
