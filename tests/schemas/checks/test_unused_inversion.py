"""Settings of engine natural_inversion that would have no effect are named, and what they say of the engine is so."""

from typing import Any

import numpy as np
import pytest

from tailforge.schemas.settings.inversion import FORMS_OF, LATE, NaturalInversionEngine
from tailforge.tasks.methods.natural_inversion import invert
from tests.support.tiny_inversions import LABELS, SEEDS, pixels_of, run, small

OTHERS: dict[str, Any] = {
    "latent_size": 4, "width": 16, "alpha_start": 1.0, "generator_rate": 0.02, "alpha_rate": 0.5, "warm_start": True,
    "pyramid_rate": 0.5, "zero_start": False, "stale_features": False, "pixel_rate": 0.5,
}  # fmt: skip
FORMS = ("pyramid", "generator", "pixels")
SETTINGS = [(form, name) for form in FORMS for name in OTHERS]
SIDE_BY_SIDE = {"groups": 2, "batches_per_run": 3}


def find(**engine: Any) -> list[str]:
    return list(NaturalInversionEngine(**engine).find_idle())


def draw(form: str, **changes: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Two batches, one after the other."""
    return pixels_of(run(small(), LABELS * 2, [*SEEDS, *range(6)], form=form, jitter=1, **changes))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_named_changes_no_image_and_what_is_not_does(form: str) -> None:
    usual = draw(form)
    idle = {name for name in OTHERS if form not in FORMS_OF[name]}
    assert np.array_equal(draw(form, **{name: OTHERS[name] for name in idle}), usual)
    for name in OTHERS.keys() - idle:
        assert not np.array_equal(draw(form, **{name: OTHERS[name]}), usual), name


@pytest.mark.parametrize(("form", "name"), SETTINGS)
def test_settings_of_another_form_are_named(form: str, name: str) -> None:
    found = find(form=form, batches_per_run=2, **{name: OTHERS[name]})
    if form in FORMS_OF[name]:
        assert found == []
    else:
        (line,) = found
        assert line.startswith(f"engine.{name} has no effect with engine.form {form}; leave it out or set form: ")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("preset", ["default", "cifar10", "cifar100"])
def test_a_preset_is_not_blamed_for_its_own_numbers(preset: str, form: str) -> None:
    assert find(preset=preset, form=form) == []
    assert find(preset=preset) == []


def test_a_number_beside_a_preset_is_named() -> None:
    assert find(preset="cifar10", form="pixels", width=128) == []  # the preset's own
    (line,) = find(preset="cifar10", form="pixels", width=64)
    assert "engine.width has no effect with engine.form pixels; leave it out or set form: pyramid or generator" in line


@pytest.mark.parametrize(
    "engine",
    [
        {"steps": 40},  # below the default of score_every, which nobody gave
        {"steps": 40, "stop_improvement": None},
        {"steps": 40, "score_every": 40},
        {"steps": 40, "score_every": 40, "stop_improvement": None},
        {"steps": 40, "score_every": 25},
        {"steps": 40, "score_every": 10, "stop_improvement": None},
        {"steps": 40, "score_every": 39, "stop_improvement": None},
        {"steps": 3, "score_every": 2, "stop_improvement": None},  # no step but the last is in the last quarter
        {"preset": "cifar10", "score_every": 1500},
        {"groups": 3},
        {"batches_per_run": 3},
        SIDE_BY_SIDE,
        SIDE_BY_SIDE | {"batches_per_run": 2},
    ],
)
def test_what_has_an_effect_passes(engine: dict[str, Any]) -> None:
    assert find(**engine) == []


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"steps": 40, "score_every": 41}, "engine.score_every 41 is above engine.steps 40; give 40 to score the last"),
        (
            {"steps": 40, "score_every": 20, "stop_improvement": None},
            "engine.score_every 20 has no multiple in the last quarter of engine.steps 40, where alone candidates are "
            "scored with engine.stop_improvement null; give 10 at most, or 40",
        ),
        ({"preset": "cifar10", "score_every": 700}, "engine.score_every 700 has no multiple in the last quarter"),
        ({"groups": 4, "batches_per_run": 3}, "engine.groups 4 is above engine.batches_per_run 3"),
    ],
)
def test_what_has_none_is_named(engine: dict[str, Any], message: str) -> None:
    (line,) = find(**engine)
    assert message in line


def test_the_last_quarter_is_the_engines() -> None:
    assert invert.LATE == LATE


@pytest.mark.parametrize("steps", [4, 5, 10, 40])
def test_the_score_every_that_is_advised_is_not_refused(steps: int) -> None:
    for every in range(1, steps + 1):
        found = find(steps=steps, score_every=every, stop_improvement=None)
        assert not (found and every <= steps // 4)


def test_more_groups_than_batches_change_no_image() -> None:
    assert np.array_equal(draw("pyramid", groups=9), draw("pyramid", groups=2))
