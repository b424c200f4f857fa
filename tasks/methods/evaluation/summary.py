"""Choose the setting of each arm on validation, and summarise all runs for the record of an evaluation.

Letters of shapes: K classes.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tailforge.schemas.documents.worth import MIXED
from tailforge.tasks.methods.evaluation.arms import REAL_ARMS
from tailforge.tasks.methods.evaluation.exchange import measure_worth
from tailforge.tasks.methods.evaluation.gains import (
    DIGITS,
    judge_gain,
    paired_gain,
    summarise_shares,
)
from tailforge.tasks.methods.evaluation.metrics import (
    BINS,
    GROUPS,
    calibration_error,
    mean_score,
)


@dataclass(frozen=True)
class Tested:
    """A run on the test images: counts int64 [K, K] by label and class found, scores [K], and the calibration error."""

    confusion: NDArray[np.int64]
    scores: tuple[float, ...]
    calibration_error: float


@dataclass(frozen=True)
class Run:
    """One trained model. `validation`: score per class; `tested` is None unless its setting was chosen.

    `share`: of synthetic images, None without a version or without real images. `dose`: whether the run belongs to the
    search for the best share.
    """

    arm: str
    setting: str
    seed: int
    step: int
    strength: float
    validation: tuple[float, ...]
    tested: Tested | None = None
    share: float | None = None
    dose: bool = False

    @property
    def macro(self) -> float:
        """Return the mean score over classes on validation."""
        return mean_score(self.validation)


@dataclass(frozen=True)
class Classes:
    """Names, groups and numbers of the classes; `rare`: the numbers of the rare ones."""

    names: tuple[str, ...]
    groups: tuple[str, ...]
    rare: tuple[int, ...]


@dataclass(frozen=True)
class CurvePoint:
    """Tested runs of real images alone, in the order of their seeds. `images`: training images of all rare classes."""

    images: int
    runs: tuple[Run, ...]


def tabulate_test(table: pa.Table, classes: int, scores: Callable[[NDArray[np.int64]], NDArray[np.float64]]) -> Tested:
    """Return the figures of a test from its table EVALUATIONS, for `classes` classes. `scores` [K]: as of `Task`."""
    # Sum the pairs of label and class found over all images.
    label, found, units = (table[name].combine_chunks().flatten().to_numpy() for name in ("label", "found", "units"))
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (label, found), units)

    # Sum the gaps per bin of confidence.
    gaps = table["gaps"].combine_chunks().flatten().to_numpy().reshape(-1, BINS).sum(0)
    error = calibration_error(gaps, int(units.sum()))
    return Tested(confusion, tuple(scores(confusion).tolist()), error)


def choose_settings(runs: Sequence[Run]) -> dict[str, str]:
    """Return the setting per arm with the highest mean macro score on validation; among equals the first.

    Only seeds that every setting of the arm has are compared.
    """
    # Macro score by arm, setting and seed.
    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        found[run.arm][run.setting][run.seed] = run.macro

    # A setting with further seeds has no advantage: its mean is over the shared seeds.
    chosen = {}
    for arm, settings in found.items():
        shared = set.intersection(*(set(seeds) for seeds in settings.values()))
        means = {
            setting: float(np.mean([seeds[each] for each in sorted(shared)])) for setting, seeds in settings.items()
        }
        chosen[arm] = max(means, key=lambda setting: round(means[setting], DIGITS))
    return chosen


def find_baseline(runs: Sequence[Run]) -> str:
    """Return the arm of real images alone with the highest mean macro score on validation, over the tested runs."""
    # Among equal arms the simpler one, which stands first, is the baseline.
    means = {arm: float(np.mean([run.macro for run in _tested(runs, arm)])) for arm in REAL_ARMS}
    return max(means, key=lambda arm: round(means[arm], DIGITS))


def summarise_runs(runs: Sequence[Run], classes: Classes) -> dict[str, Any]:
    """Return arms, doses, baseline and gains of an evaluation, for its record."""
    # Arms in the order of their first runs.
    arms = list(dict.fromkeys(run.arm for run in runs))
    baseline = find_baseline(runs)
    return {
        "arms": [_summarise_arm(arm, _tested(runs, arm), classes) for arm in arms],
        "doses": _summarise_doses(runs, classes),
        "baseline": baseline,
        "gains": [_compare(runs, arm, baseline, classes) for arm in arms if arm not in REAL_ARMS],
    }


def summarise_exchange(
    runs: Sequence[Run], points: Sequence[CurvePoint], classes: Classes, start: int, synthetic: int
) -> dict[str, Any]:
    """Return what arm `mixed` is worth in real images of rare classes, and the learning curve, for the record.

    `start`: real training images of rare classes; `synthetic`: those of the version. Errors: ValueError for one point.
    """
    # Runs of all points and of the arm are in the order of their seeds.
    own = _means(_tested(runs, MIXED), classes.rare)
    curve = np.array([_means(point.runs, classes.rare) for point in points]).T
    worth = measure_worth([point.images for point in points], curve, start, own)
    return {
        "images": start,
        "synthetic": synthetic,
        "points": [
            {
                "images": point.images,
                "tail": asdict(summarise_shares(_means(point.runs, classes.rare))),
                "macro": asdict(summarise_shares(_means(point.runs))),
            }
            for point in points
        ],
        "tail": asdict(summarise_shares(own)),
        "worth": asdict(worth),
        "per_hundred": worth.per_hundred(synthetic),
    }


def _tested(runs: Sequence[Run], arm: str) -> list[Run]:
    return sorted((run for run in runs if run.arm == arm and run.tested is not None), key=lambda run: run.seed)


def _results(runs: Sequence[Run]) -> list[Tested]:
    return [run.tested for run in runs if run.tested is not None]


def _means(runs: Sequence[Run], classes: Sequence[int] | None = None) -> list[float]:
    """Return the mean score over some classes on test, per run."""
    return [mean_score(each.scores, classes) for each in _results(runs)]


def _summarise_arm(arm: str, runs: Sequence[Run], classes: Classes) -> dict[str, Any]:
    """Return the figures of an arm at its chosen setting, over its seeds."""
    # Groups without a class have no figure.
    results = _results(runs)
    groups = {
        group: asdict(summarise_shares(_means(runs, own)))
        for group in GROUPS
        if (own := [place for place, each in enumerate(classes.groups) if each == group])
    }

    # Every figure is a mean over seeds; confusions are summed over them.
    return {
        "arm": arm,
        "setting": runs[0].setting,
        "share": runs[0].share,
        "chosen": [{"seed": run.seed, "step": run.step, "strength": run.strength} for run in runs],
        "validation_macro": asdict(summarise_shares([run.macro for run in runs])),
        "macro": asdict(summarise_shares(_means(runs))),
        "tail": asdict(summarise_shares(_means(runs, classes.rare))),
        "groups": groups,
        "calibration_error": asdict(summarise_shares([each.calibration_error for each in results])),
        "scores": [
            {"class": name, **asdict(summarise_shares([each.scores[place] for each in results]))}
            for place, name in enumerate(classes.names)
        ],
        "confusion": sum(each.confusion for each in results).tolist(),  # type: ignore[union-attr]
    }


def _summarise_doses(runs: Sequence[Run], classes: Classes) -> list[dict[str, Any]]:
    """Return the figures on validation of every share of the arms with a version."""
    # The doses are read on validation, since the test images are read at the chosen share only.
    found = []
    for arm, share in dict.fromkeys((run.arm, run.share) for run in runs if run.dose):
        own = [run for run in runs if run.dose and (run.arm, run.share) == (arm, share)]

        # Shares of all classes and of the rare ones.
        found.append(
            {
                "arm": arm,
                "share": share,
                "macro": asdict(summarise_shares([run.macro for run in own])),
                "tail": asdict(summarise_shares([mean_score(run.validation, classes.rare) for run in own])),
            }
        )
    return found


def _compare(runs: Sequence[Run], arm: str, baseline: str, classes: Classes) -> dict[str, Any]:
    """Return the gains of an arm over the baseline, seed by seed."""
    # Both lists are in the order of the seeds, so the differences are paired.
    own, other = _tested(runs, arm), _tested(runs, baseline)
    found: dict[str, Any] = {"arm": arm}
    for name, chosen in (("gain_tail", classes.rare), ("gain_macro", None)):
        gain = paired_gain(_means(own, chosen), _means(other, chosen))
        found[name] = {**asdict(gain), "verdict": judge_gain(gain)}
    return found


def list_run_rows(runs: Sequence[Run], classes: Classes) -> list[dict[str, Any]]:
    """Return the rows of EVALUATION_RUNS."""
    return [_row(run, classes) for run in runs]


def _row(run: Run, classes: Classes) -> dict[str, Any]:
    # What validation says of every run.
    row = {
        "arm": run.arm,
        "setting": run.setting,
        "seed": run.seed,
        "step": run.step,
        "strength": run.strength,
        "validation_macro": round(run.macro, DIGITS),
        "validation_tail": round(mean_score(run.validation, classes.rare), DIGITS),
        "chosen": run.tested is not None,
    }
    if run.tested is None:
        return row

    # What the test images say of the chosen ones.
    scores = run.tested.scores
    return row | {
        "macro": round(mean_score(scores), DIGITS),
        "tail": round(mean_score(scores, classes.rare), DIGITS),
        "calibration_error": round(run.tested.calibration_error, DIGITS),
        "scores": [round(value, DIGITS) for value in scores],
    }
