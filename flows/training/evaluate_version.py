"""`tailforge evaluate`: what a version of synthetic images is worth to a model of real images.

Every training is one artifact with a receipt, and so is every test. A killed evaluation goes on where it stopped.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tailforge.catalog.metadata.evaluations import FORMAT, keep_record, name_files, write_json
from tailforge.flows.build.queries import summary_view
from tailforge.flows.training.evaluation_inputs import Inputs, Request, read_inputs
from tailforge.flows.training.evaluation_runs import Trained, examine_chosen, open_drive, train_arms
from tailforge.schemas.tables import EVALUATION_RUNS
from tailforge.tasks.artifacts.contract import digest, encode_table
from tailforge.tasks.methods.evaluation.summary import (
    Run,
    list_run_rows,
    summarise_runs,
)
from tailforge.tasks.report.evaluation import draw_evaluation, tell_verdict
from tailforge.tasks.report.template_files import read_template

CHOICES = (
    "Step, adjustment, share and augmentation were chosen on validation. The test images were read once per arm and "
    "seed, after all choices."
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
    return _keep(asked, inputs, [each.run for each in made], _count_costs(asked, inputs, made))


def _count_costs(asked: Request, inputs: Inputs, made: Sequence[Trained]) -> dict[str, Any]:
    """Return seconds of training per arm, and seconds that the versions took to make, None where not recorded."""
    training: dict[str, list[float]] = {}
    for each in made:
        training.setdefault(each.run.arm, []).append(each.receipt.timings.get("compute", 0.0))

    tests = [each.test for each in made if each.test is not None]

    # Reports of older versions have no summary.
    generation = {}
    for version in inputs.versions:
        told = summary_view(asked.store, version.label)
        generation[version.label] = (told or {}).get("costs", {}).get("seconds")
    return {
        "training": {
            arm: {"runs": len(each), "seconds": round(sum(each), 1), "seconds_per_run": round(sum(each) / len(each), 1)}
            for arm, each in training.items()
        },
        "test_seconds": round(sum(receipt.timings.get("compute", 0.0) for receipt in tests), 1),
        "generation_seconds": generation,
    }


def _keep(asked: Request, inputs: Inputs, runs: Sequence[Run], costs: Mapping[str, Any]) -> dict[str, Any]:
    """Write record, runs, costs and page; return the record with their places. Errors: StoreError."""
    facts = _describe_inputs(asked, inputs)
    record = {"format": FORMAT, **facts, **summarise_runs(runs, inputs.classes)}
    record["verdict"] = tell_verdict(record)
    store, version = inputs.store, inputs.versions[0].dataset
    files = name_files(version.name, version.version, digest(facts)[:32])

    rows = pa.Table.from_pylist(list_run_rows(runs, inputs.classes), EVALUATION_RUNS)
    store.write_bytes(files.runs, encode_table(rows))
    store.write_bytes(files.costs, write_json(costs))
    store.write_bytes(files.page, draw_evaluation(record, costs, read_template("evaluation.html.j2")).encode())
    keep_record(store, files, record)
    places = {name: store.address(getattr(files, name)) for name in ("record", "runs", "page")}
    return {**record, "costs": dict(costs), "files": places}


def _describe_inputs(asked: Request, inputs: Inputs) -> dict[str, Any]:
    """Return everything that decides the figures, for the record."""
    names = inputs.classes.names
    counts = {split: each.examples.counts for split, each in inputs.real.items()}
    made = {label: each.examples.counts for label, each in inputs.synthetic.items()}

    # No time and no folder of this machine: equal evaluations have equal records.
    return {
        "version": inputs.versions[0].label,
        "against": [each.label for each in inputs.versions[1:]],
        "real": asked.real.rstrip("/").rpartition("/")[2],
        "choices": CHOICES,
        "task": inputs.task.name,
        "score": inputs.task.words.score,
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
        },
    }  # fmt: skip


def _digest(pixels: str, files: Sequence[str]) -> str:
    return hashlib.sha256("".join((pixels, *files)).encode()).hexdigest()
