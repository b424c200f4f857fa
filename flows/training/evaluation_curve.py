"""Train real images alone with other numbers of images of rare classes: the learning curve of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tailforge.flows.build.drive import Drive
from tailforge.flows.training.evaluation_inputs import Inputs
from tailforge.flows.training.evaluation_runs import Trained, examine, train_trials
from tailforge.tasks.methods.evaluation.arms import CURVE
from tailforge.tasks.methods.evaluation.exchange import ADDED_SHARES, KEPT_SHARES, choose_share
from tailforge.tasks.methods.evaluation.summary import CurvePoint, Run, find_baseline
from tailforge.tasks.stages.trials import RealData, Trial


@dataclass(frozen=True)
class Curve:
    """A learning curve: its trainings, and its points by rising numbers of images of rare classes."""

    made: tuple[Trained, ...] = ()
    points: tuple[CurvePoint, ...] = ()


def train_curve(drive: Drive, inputs: Inputs, made: Sequence[Trained]) -> Curve:
    """Train and test the best real arm with other numbers of images of rare classes.

    `made`: the tested arms. Errors: TrainingError, StoreError.
    """
    baseline = find_baseline([each.run for each in made])
    own = [each for each in made if each.run.arm == baseline and each.run.tested is not None]

    # Each training of the best arm is repeated with the images of every point.
    plan = [replace(each.trial, real=real) for each in own for real in list_points(inputs, each.trial)]
    done = examine(drive, inputs, train_trials(drive, plan, "learning curve"))
    done = [replace(each, run=_name_run(each)) for each in done]

    # The best arm itself is a point too.
    runs: dict[int, list[Run]] = {}
    for each in (*done, *own):
        runs.setdefault(each.trial.real.rare_images, []).append(each.run)
    return Curve(tuple(done), tuple(CurvePoint(images, tuple(runs[images])) for images in sorted(runs)))


def list_points(inputs: Inputs, trial: Trial) -> list[RealData]:
    """Return the real images at the points of a curve, for the seed of a trial, whose own images are left out.

    Held-back images are added in shares. Without them, the training images of rare classes are cut to shares.
    """
    real, rare = trial.real, trial.real.rare
    if inputs.held_back is None:
        others = np.flatnonzero(~real.shown[:, list(rare)].any(1))
        kept = [choose_share(real.shown, rare, share, trial.seed) for share in KEPT_SHARES]
        points = [replace(real, rows=np.union1d(others, rows)) for rows in kept]
    else:
        # All points share one array of images.
        held, first = inputs.held_back.examples.shown, len(real.train)
        added = [first + choose_share(held, rare, share, trial.seed) for share in ADDED_SHARES]
        points = [replace(real, train=inputs.all_real, rows=np.append(np.arange(first), rows)) for rows in added]

    # Shares of few images may be equal.
    by_number = {each.rare_images: each for each in points if each.rare_images != real.rare_images}
    return list(by_number.values())


def _name_run(made: Trained) -> Run:
    return replace(made.run, arm=CURVE, setting=f"{made.run.arm}, {made.trial.real.rare_images} images of rare classes")
