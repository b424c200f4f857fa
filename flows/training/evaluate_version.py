"""`tailforge evaluate`: what a version of synthetic images is worth to a classifier of real images.

Every training is one artifact with a receipt, and so is every test. A killed evaluation goes on where it stopped.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa

from tailforge.catalog.metadata.evaluations import FORMAT, keep_record, name_files, write_json
from tailforge.flows.build.drive import Chain, Drive, Step
from tailforge.flows.build.queries import summary_view
from tailforge.flows.terminal.build_progress import open_progress
from tailforge.flows.training.evaluation_inputs import Inputs, Request, read_inputs
from tailforge.schemas.evaluation import Arm, EvaluationSettings
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.tables import EVALUATION_RUNS
from tailforge.tasks.artifacts.contract import count_threads, digest, encode_table, read_table
from tailforge.tasks.images.evaluated import TEST, TRAIN, VALIDATION
from tailforge.tasks.methods.evaluation.arms import AUGMENTED, list_arms
from tailforge.tasks.methods.evaluation.fit import use_one_thread
from tailforge.tasks.methods.evaluation.summary import (
    Run,
    Tested,
    choose_settings,
    list_run_rows,
    summarise_runs,
    tabulate_test,
)
from tailforge.tasks.report.evaluation import draw_evaluation, tell_verdict
from tailforge.tasks.report.template_files import read_template
from tailforge.tasks.stages import evaluations, trials
from tailforge.tasks.stages.evaluations import Examination, read_chosen
from tailforge.tasks.stages.trials import RealData, Trial

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
    plan = list_trials(inputs, asked.settings)

    # Choices come before the test images: only what validation chose is measured on them.
    with _open_drive(inputs, workers) as drive:
        made = _run_trials(drive, plan, asked.settings)
        runs = {trial: _describe_trial(inputs, trial, receipt) for trial, receipt in made.items()}
        chosen = choose_settings(list(runs.values()))
        last = [trial for trial in made if trial.arm.setting == chosen[trial.arm.name]]
        tested = _run_tests(drive, inputs, {trial: made[trial] for trial in last})

    runs |= {trial: replace(runs[trial], tested=_describe_test(inputs, receipt)) for trial, receipt in tested.items()}
    return _keep(asked, inputs, list(runs.values()), _count_costs(asked, inputs, made, tested))


def list_trials(inputs: Inputs, settings: EvaluationSettings) -> list[Trial]:
    """Return the trials before any choice: every setting of every arm and seed; augmentations on the first seed."""
    real = inputs.real
    data = RealData(inputs.classes.names, real[TRAIN].pictures, real[VALIDATION].pictures, inputs.classes.rare)
    added = {label: each.pictures for label, each in inputs.synthetic.items()}
    version, *rivals = (each.label for each in inputs.versions)

    def seeds_of(arm: Arm) -> Sequence[int]:
        return settings.seed_numbers[:1] if arm.name == AUGMENTED else settings.seed_numbers

    arms = list_arms(settings, version, rivals)
    return [Trial(arm, seed, settings.fit, data, added) for arm in arms for seed in seeds_of(arm)]


@contextmanager
def _open_drive(inputs: Inputs, workers: int | None) -> Iterator[Drive]:
    """Yield a drive that runs stages in threads of this process, and shows their progress."""
    count = workers or count_threads()
    with (
        ThreadPoolExecutor(count, "evaluate", initializer=use_one_thread) as threads,
        open_progress(lambda line: None) as progress,
    ):
        yield Drive(
            inputs.store, lambda step: threads.submit(step.stage.make, inputs.store, *step.given), count, progress
        )


def _run_trials(drive: Drive, plan: Sequence[Trial], settings: EvaluationSettings) -> dict[Trial, Receipt]:
    """Train all trials, then the augmentation that validation prefers on the other seeds."""
    made = _run(drive, {trial: Step(trials.STAGE, (trial,)) for trial in plan}, "arms")
    tried = {trial: read_chosen(drive.store, receipt) for trial, receipt in made.items() if trial.arm.name == AUGMENTED}
    best = max(tried, key=lambda trial: tried[trial]["macro_recall"])
    rest = [replace(best, seed=seed) for seed in settings.seed_numbers[1:]]
    return made | _run(drive, {trial: Step(trials.STAGE, (trial,)) for trial in rest}, "chosen augmentation")


def _run_tests(drive: Drive, inputs: Inputs, made: Mapping[Trial, Receipt]) -> dict[Trial, Receipt]:
    """Measure the chosen trials on the test images."""
    test = inputs.real[TEST]
    steps = {
        trial: Step(evaluations.STAGE, (Examination(trial, receipt, test.pictures, test.names),))
        for trial, receipt in made.items()
    }
    return _run(drive, steps, "test images")


def _run(drive: Drive, steps: Mapping[Trial, Step], part: str) -> dict[Trial, Receipt]:
    """Return the receipt per trial."""
    stages = list(dict.fromkeys(step.stage for step in steps.values()))
    receipts = drive.run([_chain(step) for step in steps.values()], stages, part)
    return dict(zip(steps, receipts, strict=True))


def _chain(step: Step) -> Chain:
    return (yield step)


def _describe_trial(inputs: Inputs, trial: Trial, receipt: Receipt) -> Run:
    chosen: Any = read_chosen(inputs.store, receipt)
    told = int(chosen["step"]), float(chosen["strength"]), tuple(chosen["recall"])
    return Run(trial.arm.name, trial.arm.setting, trial.seed, *told)


def _describe_test(inputs: Inputs, receipt: Receipt) -> Tested:
    table = read_table(inputs.store, receipt)
    labels, found, confidence = (table[name].to_numpy() for name in ("label", "found", "confidence"))
    return tabulate_test(labels, found, confidence, len(inputs.classes.names))


def _count_costs(
    asked: Request, inputs: Inputs, made: Mapping[Trial, Receipt], tested: Mapping[Trial, Receipt]
) -> dict[str, Any]:
    """Return seconds of training per arm, and seconds that the versions took to make, None where not recorded."""
    training: dict[str, list[float]] = {}
    for trial, receipt in made.items():
        training.setdefault(trial.arm.name, []).append(receipt.timings.get("compute", 0.0))

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
        "test_seconds": round(sum(receipt.timings.get("compute", 0.0) for receipt in tested.values()), 1),
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
    counts = {split: each.count_classes(len(names)) for split, each in inputs.real.items()}
    made = {label: each.count_classes(len(names)) for label, each in inputs.synthetic.items()}

    # No time and no folder of this machine: equal evaluations have equal records.
    return {
        "version": inputs.versions[0].label,
        "against": [each.label for each in inputs.versions[1:]],
        "real": asked.real.rstrip("/").rpartition("/")[2],
        "choices": CHOICES,
        "settings": asked.settings.model_dump(mode="json"),
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
            **{split: _digest(each.pictures.digest, each.digests) for split, each in inputs.real.items()},
            **{label: _digest(each.pictures.digest, each.digests) for label, each in inputs.synthetic.items()},
        },
    }  # fmt: skip


def _digest(pixels: str, files: Sequence[str]) -> str:
    return hashlib.sha256("".join((pixels, *files)).encode()).hexdigest()
