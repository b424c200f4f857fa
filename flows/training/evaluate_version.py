"""`tailforge evaluate`: what a version of synthetic images is worth to a model of real images.

Every training is one artifact with a receipt, and so is every test. A killed evaluation goes on where it stopped.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tailforge.catalog.metadata.evaluations import FORMAT, keep_record, name_files, write_json
from tailforge.flows.training.evaluation_costs import count_costs
from tailforge.flows.training.evaluation_curve import Curve, train_curve
from tailforge.flows.training.evaluation_inputs import Inputs, Request, read_inputs
from tailforge.flows.training.evaluation_runs import Trained, examine_chosen, open_drive, train_arms
from tailforge.schemas.documents.worth import Worth
from tailforge.schemas.tables import EVALUATION_RUNS
from tailforge.tasks.artifacts.contract import digest, encode_table
from tailforge.tasks.images.evaluated import TRAIN
from tailforge.tasks.methods.evaluation.summary import (
    Run,
    list_run_rows,
    summarise_exchange,
    summarise_runs,
)
from tailforge.tasks.publish.evaluated import describe_evaluated
from tailforge.tasks.report.evaluation import draw_evaluation, tell_verdict
from tailforge.tasks.report.template_files import read_template

CHOICES = (
    "Step, adjustment, share and augmentation were chosen on validation. The test images were read once per arm and "
    "seed, and once per training of a learning curve, after all choices."
)


def evaluate_version(asked: Request, workers: int | None = None) -> dict[str, Any]:
    """Evaluate a version, keep the record in the store, and return it with the places of its files.

    `workers`: trainings at a time, each on one thread; one per core by default. Errors: those of `read_inputs`,
    TrainingError, StoreError.
    """
    inputs = read_inputs(asked)

    # Choices come before the test images: only what validation chose is measured on them.
    with open_drive(inputs, workers) as drive:
        made = examine_chosen(drive, inputs, train_arms(drive, inputs, asked.settings))
        curve = train_curve(drive, inputs, made) if asked.settings.learning_curve else Curve()
    return _keep(asked, inputs, made, curve)


def _keep(asked: Request, inputs: Inputs, made: Sequence[Trained], curve: Curve) -> dict[str, Any]:
    """Write record, runs, costs and page; return the record with their places. Errors: StoreError."""
    facts = _describe_inputs(asked, inputs)
    runs = [each.run for each in made]
    record = {"format": FORMAT, **facts, **summarise_runs(runs, inputs.classes)}
    record["exchange"] = _summarise_exchange(inputs, runs, curve)
    record["verdict"] = tell_verdict(record)
    costs = count_costs(asked, inputs, (*made, *curve.made))
    runs += [each.run for each in curve.made]
    store, version = inputs.store, inputs.versions[0].dataset
    files = name_files(version.name, version.version, digest(facts)[:32])

    rows = pa.Table.from_pylist(list_run_rows(runs, inputs.classes), EVALUATION_RUNS)
    store.write_bytes(files.runs, encode_table(rows))
    store.write_bytes(files.costs, write_json(costs))
    store.write_bytes(files.page, draw_evaluation(record, costs, read_template("evaluation.html.j2")).encode())

    # The record comes last: it names the evaluation as the newest.
    describe_evaluated(store, version, Worth.read(record))
    keep_record(store, files, record)
    places = {name: store.address(getattr(files, name)) for name in ("record", "runs", "page")}
    return {**record, "costs": dict(costs), "files": places}


def _summarise_exchange(inputs: Inputs, runs: Sequence[Run], curve: Curve) -> dict[str, Any] | None:
    """Return the learning curve and the exchange rate; None without a curve."""
    if not curve.points:
        return None
    own, made = (
        int(each.examples.shown[:, list(inputs.classes.rare)].any(1).sum())
        for each in (inputs.real[TRAIN], inputs.synthetic[inputs.versions[0].label])
    )
    return summarise_exchange(runs, curve.points, inputs.classes, own, made)


def _describe_inputs(asked: Request, inputs: Inputs) -> dict[str, Any]:
    """Return everything that decides the figures, for the record."""
    names = inputs.classes.names
    counts = {split: each.examples.counts for split, each in inputs.real.items()}
    made = {label: each.examples.counts for label, each in inputs.synthetic.items()}

    held = inputs.held_back

    # No time and no folder of this machine: equal evaluations have equal records.
    return {
        "version": inputs.versions[0].label,
        "against": [each.label for each in inputs.versions[1:]],
        "real": _last_part(asked.real),
        "held_back": None if asked.held_back is None else _last_part(asked.held_back),
        "choices": CHOICES,
        "task": inputs.task.name,
        "score": inputs.task.words.score,
        "unit": inputs.task.words.unit,
        "settings": asked.settings.model_dump(mode="json") | inputs.fit.model_dump(mode="json"),
        "images": {"height": inputs.format.size[0], "width": inputs.format.size[1], "channels": inputs.format.channels,
                   "fit": inputs.format.fit},
        "classes": [
            {
                "name": name,
                "group": inputs.classes.groups[place],
                **{split: counts[split][place] for split in counts},
                "synthetic": {label: made[label][place] for label in made},
            }
            for place, name in enumerate(names)
        ],
        "leaks": [
            {"image": leak.name, "how": leak.how, "kind": leak.kind, "of": leak.other} for leak in inputs.leaks
        ],
        "references_by_digest_only": list(inputs.unseen),
        "digests": {
            **{split: _digest(each.examples.digest, each.digests) for split, each in inputs.real.items()},
            **{label: _digest(each.examples.digest, each.digests) for label, each in inputs.synthetic.items()},
            **({"held back": _digest(held.examples.digest, held.digests)} if held else {}),
        },
    }  # fmt: skip


def _last_part(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2]


def _digest(pixels: str, files: Sequence[str]) -> str:
    return hashlib.sha256("".join((pixels, *files)).encode()).hexdigest()
