"""Train and test the arms of an evaluation: in which order, and what validation chooses on the way.

Every training is one artifact with a receipt, and so is every test. A killed evaluation goes on where it stopped.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tailforge.flows.build.drive import Chain, Drive, Step
from tailforge.flows.terminal.build_progress import open_progress
from tailforge.flows.training.evaluation_inputs import Inputs
from tailforge.schemas.evaluation import Arm, Augmentation, EvaluationSettings
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import count_threads, read_table
from tailforge.tasks.images.evaluated import TEST, TRAIN, VALIDATION
from tailforge.tasks.methods.evaluation.arms import (
    AUGMENTED,
    list_augmented_arms,
    list_plain_arms,
    list_version_arms,
)
from tailforge.tasks.methods.evaluation.fit import use_one_thread
from tailforge.tasks.methods.evaluation.summary import Run, choose_settings, tabulate_test
from tailforge.tasks.stages import evaluations, trials
from tailforge.tasks.stages.evaluations import Examination
from tailforge.tasks.stages.judges import read_chosen
from tailforge.tasks.stages.trials import RealData, Trial


@dataclass(frozen=True)
class Trained:
    """A finished training with its figures. `test`: receipt of its test, None unless its setting was chosen."""

    trial: Trial
    receipt: Receipt
    run: Run
    test: Receipt | None = None


@contextmanager
def open_drive(inputs: Inputs, workers: int | None) -> Iterator[Drive]:
    """Yield a drive that runs stages in threads of this process, and shows their progress."""
    count = workers or count_threads()
    with (
        ThreadPoolExecutor(count, "evaluate", initializer=use_one_thread) as threads,
        open_progress(lambda line: None) as progress,
    ):
        yield Drive(
            inputs.store, lambda step: threads.submit(step.stage.make, inputs.store, *step.given), count, progress
        )


def train_arms(drive: Drive, inputs: Inputs, settings: EvaluationSettings) -> list[Trained]:
    """Train every arm at every setting, with real images alone first. Errors: TrainingError, StoreError.

    The augmentation that validation prefers for real images alone serves the arms with a version too. At their best
    share, the mixed arms are also trained with the default augmentation, as the real arm `balanced` is.
    """
    seeds, make = settings.seed_numbers, _plan_trials(inputs)

    # Augmentations are compared on the first seed. `balanced` has made the training with the default one.
    made = train_trials(drive, make(list_plain_arms(), seeds), "real images alone")
    made += train_trials(drive, make(list_augmented_arms(settings), seeds[:1]), "augmentations")
    (best,) = _chosen_arms(made, lambda arm: arm.name == AUGMENTED)
    made += train_trials(drive, make([best], seeds[1:]), "chosen augmentation")

    # Shares are compared with the chosen augmentation.
    version, *rivals = (each.label for each in inputs.versions)
    arms = list_version_arms(settings, version, rivals, best.augmentation)
    made += [_mark_dose(each) for each in train_trials(drive, make(arms, seeds), "arms with a version")]
    if best.augmentation != Augmentation():
        plain = [_without_augmentation(arm) for arm in _chosen_arms(made, _is_mixed)]
        made += train_trials(drive, make(plain, seeds), "default augmentation")
    return made


def examine_chosen(drive: Drive, inputs: Inputs, made: Sequence[Trained]) -> list[Trained]:
    """Return all trainings; those at the setting that validation prefers are measured on the test images."""
    tested = {each.trial: each for each in examine(drive, inputs, _list_chosen(made))}
    return [tested.get(each.trial, each) for each in made]


def examine(drive: Drive, inputs: Inputs, made: Sequence[Trained]) -> list[Trained]:
    """Return trainings with their figures on the test images."""
    test = inputs.real[TEST]
    steps = [
        Step(evaluations.STAGE, (Examination(each.trial, each.receipt, test.examples, test.names),)) for each in made
    ]
    receipts = _run(drive, steps, "test images")
    return [_add_test(inputs, each, receipt) for each, receipt in zip(made, receipts, strict=True)]


def _list_chosen(made: Sequence[Trained]) -> list[Trained]:
    """Return the trainings at the setting that validation prefers, for each arm."""
    chosen = choose_settings([each.run for each in made])
    return [each for each in made if each.run.setting == chosen[each.run.arm]]


def _plan_trials(inputs: Inputs) -> Callable[[Sequence[Arm], Sequence[int]], list[Trial]]:
    """Return the function that lists the trials of arms and seeds."""
    real = inputs.real
    data = RealData(inputs.classes.names, real[TRAIN].examples, real[VALIDATION].examples, inputs.classes.rare)
    added = {label: each.examples for label, each in inputs.synthetic.items()}
    fit, model = inputs.fit, inputs.model
    return lambda arms, seeds: [Trial(arm, seed, fit, model, data, added) for arm in arms for seed in seeds]


def train_trials(drive: Drive, plan: Sequence[Trial], part: str) -> list[Trained]:
    """Return the finished trainings; `part` names them for people. Errors: TrainingError, StoreError."""
    receipts = _run(drive, [Step(trials.STAGE, (trial,)) for trial in plan], part)
    return [
        Trained(trial, receipt, _describe_trial(drive, trial, receipt))
        for trial, receipt in zip(plan, receipts, strict=True)
    ]


def _run(drive: Drive, steps: Sequence[Step], part: str) -> list[Receipt]:
    stages = list(dict.fromkeys(step.stage for step in steps))
    return drive.run([_chain(step) for step in steps], stages, part)


def _chain(step: Step) -> Chain:
    return (yield step)


def _chosen_arms(made: Sequence[Trained], wanted: Callable[[Arm], bool]) -> list[Arm]:
    """Return some arms at the setting that validation prefers."""
    arms = {each.trial.arm.name: each.trial.arm for each in _list_chosen(made)}
    return [arm for arm in arms.values() if wanted(arm)]


def _is_mixed(arm: Arm) -> bool:
    return bool(arm.source) and arm.real


def _without_augmentation(arm: Arm) -> Arm:
    return arm.model_copy(update={"augmentation": Augmentation()})


def _mark_dose(made: Trained) -> Trained:
    return replace(made, run=replace(made.run, dose=_is_mixed(made.trial.arm)))


def _describe_trial(drive: Drive, trial: Trial, receipt: Receipt) -> Run:
    chosen: Any = read_chosen(drive.store, receipt)
    told = int(chosen["step"]), float(chosen["strength"]), tuple(chosen["scores"])
    share = trial.arm.share if _is_mixed(trial.arm) else None
    return Run(trial.arm.name, trial.arm.setting, trial.seed, *told, share=share)


def _add_test(inputs: Inputs, made: Trained, receipt: Receipt) -> Trained:
    """Return a training with the figures of its test."""
    tested = tabulate_test(read_table(inputs.store, receipt), len(inputs.classes.names), inputs.task.scores)
    return replace(made, run=replace(made.run, tested=tested), test=receipt)
