"""The rivals of our capture draw the same images and see the words in the same places, or they would be no rivals."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tailforge.schemas.settings.annotation import Recording
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.methods.embedded.measure import plan_requests
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.methods.sampling.rendered import Rendered
from tests.benchmarks.masks.images import open_generator, specify
from tests.benchmarks.masks.rivals import render_per_head, render_stored

SETTINGS = PlainEngine(steps=8, guidance=3.0, batch_size=4)
SAMPLES = [specify(number, request) for number, request in enumerate(plan_requests(1, 3)[:4])]
CONCEPT = 1


@pytest.fixture(scope="module")
def ours() -> list[Rendered]:
    return list(render_plain(open_generator(), SAMPLES, SETTINGS, Recording(window=(0.0, 1.0)), Clock()))


def concept_map(rendered: Rendered) -> NDArray[np.float64]:
    assert rendered.attention is not None
    assert rendered.attention.shape == (3, 16, 16)
    found: NDArray[np.float64] = rendered.attention[CONCEPT].astype(np.float64).ravel()
    return found


def correlation(first: Rendered, second: Rendered) -> float:
    return float(np.corrcoef(concept_map(first), concept_map(second))[0, 1])


def largest_difference(first: Rendered, second: Rendered) -> int:
    assert first.pixels is not None
    assert second.pixels is not None
    return int(np.abs(first.pixels.astype(int) - second.pixels).max())


@pytest.mark.parametrize("render", [render_stored, render_per_head])
def test_a_rival_sees_the_words_where_ours_does(
    render: Callable[..., Iterator[Rendered]], ours: list[Rendered]
) -> None:
    model = open_generator()
    rival = list(render(model, SAMPLES, SETTINGS))
    # Eager attention rounds otherwise.
    assert max(largest_difference(one, other) for one, other in zip(ours, rival, strict=True)) <= 2
    same = [correlation(one, other) for one, other in zip(ours, rival, strict=True)]
    others = [correlation(one, other) for one, other in zip(ours, [*rival[1:], rival[0]], strict=True)]
    assert np.mean(same) > 0.6
    assert np.mean(same) > np.mean(others) + 0.2
    processors = {type(getattr(module, "processor", None)).__name__ for module in model.denoiser.modules()}
    assert "EagerProcessor" not in processors
