"""Order and split of an epoch, as arithmetic: everything once, evenly, within the buffer, and the same everywhere."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.catalog.reading.order import Reader, check_rank, choose_grain, draw_samples, draw_shards
from tailforge.schemas.errors import ReadingError

SEEDS = st.integers(0, 2**64)


@given(samples=st.integers(0, 500), world_size=st.integers(1, 20), workers=st.integers(1, 8))
def test_readers_share_every_sample_once_and_evenly(samples: int, world_size: int, workers: int) -> None:
    runs = [
        [Reader(rank, world_size, worker, workers).run(samples) for worker in range(workers)]
        for rank in range(world_size)
    ]
    assert [position for rank in runs for run in rank for position in run] == list(range(samples))
    by_rank = [sum(map(len, rank)) for rank in runs]
    assert max(by_rank) - min(by_rank) <= 1
    for rank, count in zip(runs, by_rank, strict=True):
        assert max(map(len, rank)) <= max(1.25 * count / workers, count / workers + 1)


@given(samples=st.integers(0, 5000), workers=st.integers(1, 9), batch=st.integers(1, 200))
def test_workers_make_as_many_batches_as_one_reader(samples: int, workers: int, batch: int) -> None:
    """For a batch that is told, and without being told for every power of two up to the grain."""
    grain = choose_grain(samples, workers)
    told = [2**power for power in range(11) if 2**power <= grain]
    for size, given_size in [(batch, batch), *((size, None) for size in told)]:
        runs = [Reader(0, 1, worker, workers).run(samples, given_size) for worker in range(workers)]
        assert [position for run in runs for position in run] == list(range(samples))
        assert sum(math.ceil(len(run) / size) for run in runs) == math.ceil(samples / size)
        assert sum(len(run) // size for run in runs) == samples // size  # drop_last


@pytest.mark.parametrize(
    ("samples", "workers", "grain"), [(0, 1, 1), (324, 4, 16), (7, 2, 1), (8, 2, 1), (16, 2, 2), (10**6, 8, 1024)]
)
def test_a_grain_is_a_power_of_two_of_which_every_worker_gets_four(samples: int, workers: int, grain: int) -> None:
    assert choose_grain(samples, workers) == grain


@given(start=st.integers(0, 1000), length=st.integers(0, 300), buffer=st.integers(1, 400), seed=SEEDS)
def test_shuffling_keeps_every_sample_and_never_holds_more_than_the_buffer(
    start: int, length: int, buffer: int, seed: int
) -> None:
    given_out = draw_samples(range(start, start + length), buffer, seed, 0).tolist()
    assert sorted(given_out) == list(range(start, start + length))
    furthest = np.maximum.accumulate([*given_out, start]).tolist()
    waiting = [furthest[n] - start - n for n in range(length)]  # read and not given out, when n are given out already
    assert max(waiting, default=0) <= buffer


@given(count=st.integers(0, 50), seed=SEEDS, epoch=st.integers(0, 1000))
def test_shards_are_permuted(count: int, seed: int, epoch: int) -> None:
    assert sorted(draw_shards(count, seed, epoch).tolist()) == list(range(count))


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = {tuple(draw_shards(20, seed, epoch).tolist()) for seed in range(5) for epoch in range(5)}
    samples = {tuple(draw_samples(range(50), 20, seed, epoch).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == len(samples) == 25


def test_every_order_of_a_few_shards_is_as_likely() -> None:
    orders = [tuple(draw_shards(3, seed, 0).tolist()) for seed in range(6000)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert max(abs(count - 1000) for count in counts) < 5 * 1000**0.5


def test_orders_are_the_same_on_every_machine() -> None:
    assert draw_shards(8, 7, 3).tolist() == [2, 4, 7, 3, 5, 1, 0, 6]
    assert draw_samples(range(100, 112), 5, 7, 3).tolist() == [
        100,
        102,
        101,
        103,
        104,
        105,
        106,
        107,
        108,
        109,
        110,
        111,
    ]


@pytest.mark.parametrize(("rank", "world_size"), [(0, None), (None, 2), (2, 2), (-1, 2), (0, 0)])
def test_an_impossible_rank_is_refused(rank: int | None, world_size: int | None) -> None:
    with pytest.raises(ReadingError, match=f"rank is {rank}"):
        check_rank(rank, world_size)
