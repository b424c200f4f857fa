"""What it costs to read words' attention while images are drawn: ours, and two ways of the field (rivals.py).

`python -m tests.benchmarks.masks.overhead [--rounds N]` prints the rows; the benchmark `masks` writes them down. All
are shares over plain sampling of the same eight images with the embedded generator, 16 steps, guidance 3. `per_head`
can only draw one image at a time; `per_head/one at a time` is over plain sampling that does so too.

- `time_overhead`: processor time of all threads, all ways turn about in one process after a warm-up, in another order
  every round; the median over rounds of the ratio within a round, and the middle half. `wall_overhead`: the same by the
  clock on the wall, which is what a user waits for, but which tells nothing on a machine that does other work too.
- `memory_overhead`: peak of allocated tensors, the weights included, in a process of its own, by the events of torch's
  allocator. A process's resident memory would be mostly libraries, and changes from run to run.
"""

import argparse
import gc
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.settings.annotation import Annotation, Recording
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.methods.embedded.measure import plan_requests
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator
from tests.benchmarks.masks.images import open_generator, specify
from tests.benchmarks.masks.rivals import render_per_head, render_stored
from tests.benchmarks.pages import ROOT, markdown_table, row

SETTINGS = PlainEngine(steps=16, guidance=3.0, batch_size=8)
ALONE = SETTINGS.model_copy(update={"batch_size": 1})
SEED = 11
ROUNDS = 9

Draw = Callable[[DiffusersGenerator, Sequence[SampleSpec]], object]


def _plain(settings: PlainEngine, recording: Recording | None) -> Draw:
    return lambda model, samples: list(render_plain(model, samples, settings, recording, Clock()))


DRAWS: dict[str, Draw] = {
    "plain": _plain(SETTINGS, None),
    "ours": _plain(SETTINGS, Annotation().recorded),
    "stored_maps": lambda model, samples: list(render_stored(model, samples, SETTINGS)),
    "per_head": lambda model, samples: list(render_per_head(model, samples, SETTINGS)),
    "plain/one at a time": _plain(ALONE, None),
}
# Arm of the page: what is measured, and over what.
ARMS = {
    "ours": ("ours", "plain"),
    "stored_maps": ("stored_maps", "plain"),
    "per_head": ("per_head", "plain"),
    "per_head/one at a time": ("per_head", "plain/one at a time"),
}


class Spent(NamedTuple):
    """Seconds."""

    wall: float
    processor: float


def measure_overhead(rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Rows of every arm, time first."""
    return [*time_rows(time_rounds(rounds)), *memory_rows({name: _ask_peak(name) for name in DRAWS})]


def time_rounds(rounds: int) -> list[dict[str, Spent]]:
    """What every way to draw took in every round, each round in another order: a way may slow down the one after it."""
    model, samples, names = open_generator(), choose_samples(), list(DRAWS)
    for name in names:
        _spend(DRAWS[name], model, samples)  # a warm-up
    spent = []
    for number in range(rounds):
        random.Random(number).shuffle(names)
        spent.append({name: _spend(DRAWS[name], model, samples) for name in names})
    return spent


def choose_samples() -> list[SampleSpec]:
    """One batch."""
    return [specify(number, each) for number, each in enumerate(plan_requests(1, SEED)[: SETTINGS.batch_size])]


def _spend(draw: Draw, model: DiffusersGenerator, samples: Sequence[SampleSpec]) -> Spent:
    gc.collect()
    wall, processor = time.perf_counter(), time.process_time()
    draw(model, samples)
    return Spent(time.perf_counter() - wall, time.process_time() - processor)


def time_rows(spent: Sequence[Mapping[str, Spent]]) -> list[dict[str, Any]]:
    """Median and middle half, over rounds, of each arm's time over its base's, less one."""
    rows = []
    for metric, kind in (("time_overhead", "processor"), ("wall_overhead", "wall")):
        for arm, (name, base) in ARMS.items():
            ratios = [getattr(each[name], kind) / getattr(each[base], kind) - 1 for each in spent]
            low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75]).tolist()
            rows.append(row(arm, metric, middle, "share", low, high))
    return rows


def memory_rows(peaks: Mapping[str, int]) -> list[dict[str, Any]]:
    """Each arm's peak over its base's, less one."""
    return [row(arm, "memory_overhead", peaks[name] / peaks[base] - 1, "share") for arm, (name, base) in ARMS.items()]


def _ask_peak(name: str) -> int:
    command = [sys.executable, "-m", "tests.benchmarks.masks.overhead", "--memory", name]
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return int(out.splitlines()[-1])


def count_peak(name: str) -> int:
    """Most bytes that tensors took at once while a batch was drawn, weights included."""
    model, samples = open_generator(), choose_samples()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        DRAWS[name](model, samples)
    assert watched.profiler is not None
    events = watched.profiler.kineto_results.events()
    changes = sorted((each for each in events if each.name() == "[memory]"), key=lambda each: each.start_ns())
    networks = [part for part in model.pipeline.components.values() if isinstance(part, nn.Module)]
    weights = sum(each.nbytes for network in networks for each in (*network.parameters(), *network.buffers()))
    return weights + int(np.cumsum([each.nbytes() for each in changes]).max())


def main() -> None:
    """Print the rows, or one way's peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory", choices=DRAWS, help="print the peak of tensor memory of this way, in bytes")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    print(count_peak(words.memory) if words.memory else markdown_table(measure_overhead(words.rounds)))


if __name__ == "__main__":
    main()
