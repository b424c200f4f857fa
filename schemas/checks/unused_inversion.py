"""Settings of engine natural_inversion that were given and would have no effect."""

from collections.abc import Iterator, Mapping

from tailforge.schemas.settings.inversion import PRESETS, Form, NaturalInversionEngine

LATE = 0.75  # of the steps; without stop_improvement no candidate is scored before
DRAWN: tuple[Form, ...] = ("pyramid", "generator")
FORMS_OF: Mapping[str, tuple[Form, ...]] = {
    "latent_size": DRAWN,
    "width": DRAWN,
    "alpha_start": DRAWN,
    "generator_rate": DRAWN,
    "alpha_rate": DRAWN,
    "warm_start": DRAWN,
    "pyramid_rate": ("pyramid",),
    "zero_start": ("pyramid",),
    "stale_features": ("pyramid",),
    "pixel_rate": ("pixels",),
}


def find_idle_inversion(engine: NaturalInversionEngine) -> Iterator[str]:
    """A line each, of an engine as its author wrote it."""
    given = _given(engine)
    for name, forms in FORMS_OF.items():
        if name in given and engine.form not in forms:
            yield (
                f"engine.{name} has no effect with engine.form {engine.form}; leave it out or set form: "
                f"{' or '.join(forms)}"
            )
    if "score_every" in given:
        yield from _never_scored(engine)
    if engine.groups > engine.batches:
        yield (
            f"engine.groups {engine.groups} is above engine.batches_per_run {engine.batches}, of which they are "
            f"trained side by side; give {engine.batches} at most, or more batches_per_run"
        )


def _given(engine: NaturalInversionEngine) -> set[str]:
    """What the author gave. A preset's numbers count as set too; those that equal it may be its own."""
    preset = PRESETS.get(engine.preset, {})
    return {name for name in engine.model_fields_set if name not in preset or getattr(engine, name) != preset[name]}


def _never_scored(engine: NaturalInversionEngine) -> Iterator[str]:
    every, steps = engine.score_every, engine.steps
    last_but_one = (steps - 1) // every * every  # the last step is always scored
    if every > steps:
        yield f"engine.score_every {every} is above engine.steps {steps}; give {steps} to score the last step alone"
    elif engine.stop_improvement is None and last_but_one < LATE * steps and 4 <= steps != every:
        yield (
            f"engine.score_every {every} has no multiple in the last quarter of engine.steps {steps}, where alone "
            f"candidates are scored with engine.stop_improvement null; give {steps // 4} at most, or {steps} to score "
            "the last step alone"
        )
