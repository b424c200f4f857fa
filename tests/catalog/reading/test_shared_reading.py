"""One epoch over many readers: ranks and DataLoader workers, found without being told, and going on after a stop."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset

from tailforge.catalog.reading.open_dataset import ShardedDataset, open_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.errors import ReadingError
from tests.support.repository import ROOT

MANY_WORKERS = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores
SHUFFLES: list[dict[str, Any]] = [{}, {"shuffle_seed": 3, "shuffle_buffer": 7}, {"shuffle_seed": 3}]


def open_parts(store: Store, **options: Any) -> ShardedDataset:
    return open_dataset(store.uri, name="parts", decode=False, **options)


def keys_of(samples: Any) -> list[str]:
    return [sample["key"] for sample in samples]


def as_is(sample: dict[str, Any]) -> dict[str, Any]:
    """Collate function of a DataLoader that hands samples on."""
    return sample


@pytest.fixture(scope="module")
def keys(published: Store) -> list[str]:
    return keys_of(open_parts(published))


@settings(max_examples=25)
@given(world_size=st.integers(1, 60), options=st.sampled_from(SHUFFLES), epoch=st.integers(0, 3))
def test_ranks_share_every_sample_once(
    published: Store, keys: list[str], world_size: int, options: dict[str, Any], epoch: int
) -> None:
    """Also where there are more readers than shards, or than samples."""
    found: list[str] = []
    for rank in range(world_size):
        part = open_parts(published, rank=rank, world_size=world_size, **options)
        part.set_epoch(epoch)
        read = keys_of(part)
        assert len(part) == len(read)
        found += read
    assert sorted(found) == sorted(keys)
    assert options or found == keys


def test_every_epoch_has_an_order_of_its_own(published: Store, keys: list[str]) -> None:
    train, orders = open_parts(published, shuffle_seed=1), []
    for epoch in (0, 1, 0):
        train.set_epoch(epoch)
        orders.append(keys_of(train))
    assert orders[0] == orders[2] != orders[1] != keys
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(keys)
    assert orders[0] != keys_of(open_parts(published, shuffle_seed=2))


@MANY_WORKERS
@pytest.mark.parametrize("workers", [0, 1, 2, 5])
@pytest.mark.parametrize("options", SHUFFLES[:2])
def test_workers_share_every_sample_once(
    published: Store, keys: list[str], workers: int, options: dict[str, Any]
) -> None:
    """The loader knows the length too."""
    for rank in (0, 1):
        part = open_parts(published, rank=rank, world_size=2, **options)
        loader = DataLoader(part, batch_size=None, num_workers=workers, collate_fn=as_is)
        read = keys_of(loader)
        assert len(read) == len(set(read)) == len(loader) == 21
        assert sorted(read) == sorted(keys_of(part))


@MANY_WORKERS
@pytest.mark.parametrize(
    ("workers", "batch", "told"), [(0, 5, None), (3, 2, None), (2, 4, None), (4, 5, 5), (3, 40, 40)]
)
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_loader_has_as_many_batches_as_it_says(
    published: Store, keys: list[str], workers: int, batch: int, told: int | None, drop_last: bool
) -> None:
    train = open_parts(published, batch_size=told)
    loader = DataLoader(train, batch_size=batch, num_workers=workers, collate_fn=keys_of, drop_last=drop_last)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert drop_last or sorted(key for each in batches for key in each) == sorted(keys)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_refused(published: Store, batch_size: int) -> None:
    with pytest.raises(ReadingError, match=f"batch_size is {batch_size}"):
        open_parts(published, batch_size=batch_size)


def test_workers_that_stay_go_on_to_the_next_epoch(published: Store, keys: list[str]) -> None:
    train = open_parts(published, shuffle_seed=1)
    loader = DataLoader(train, batch_size=None, num_workers=1, collate_fn=as_is, persistent_workers=True)
    for epoch in (0, 1):
        train.set_epoch(epoch)
        assert keys_of(loader) == keys_of(train)
    del loader


def test_a_data_loader_that_came_too_late_says_so(published: Store) -> None:
    with pytest.raises(TypeError, match="import torch before open_dataset"):
        open_parts(published)[0]


RANK = """
import sys, torch.distributed as dist
from torch.utils.data import DataLoader
from tailforge import open_dataset
from tests.catalog.reading.test_shared_reading import as_is
if __name__ == "__main__":
    store, rank, meeting = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    train = open_dataset(store + "/datasets/parts", decode=False)
    dist.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=2)
    for start in ("fork", "spawn"):
        loader = DataLoader(train, batch_size=None, num_workers=1, collate_fn=as_is, multiprocessing_context=start)
        print(*[sample["key"] for sample in loader])
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_ranks_are_those_of_torch_distributed(published: Store, keys: list[str], tmp_path: Path) -> None:
    """Also in a worker that is spawned, which knows nothing of the process group."""
    program = tmp_path / "rank.py"
    program.write_text(RANK)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(program), published.uri, str(rank), str(tmp_path / "meeting")],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    printed = []
    for rank in ranks:
        out, err = rank.communicate(timeout=200)
        assert rank.returncode == 0, err
        printed.append([line.split() for line in out.splitlines()])
    for first, second in zip(*printed, strict=True):
        assert first + second == keys


@pytest.mark.parametrize("options", [*SHUFFLES, {"where": pc.field("class_id") != 1, "shuffle_seed": 5}])
def test_reading_goes_on_with_the_very_next_sample(published: Store, options: dict[str, Any]) -> None:
    """Wherever it stopped, in another dataset object, from a state that was written down."""
    train = open_parts(published, rank=1, world_size=2, **options)
    train.set_epoch(4)
    expected, states = [], [train.state_dict()]
    for sample in train:
        expected.append(sample["key"])
        states.append(train.state_dict())
    for position, state in enumerate(states):
        again = open_parts(published, rank=1, world_size=2, **options)
        again.load_state_dict(json.loads(json.dumps(state)))
        assert again.state_dict() == state
        assert keys_of(again) == expected[position:]
    assert keys_of(again) == expected  # the iteration after it is a whole one


def test_reading_goes_on_in_another_process(published: Store) -> None:
    options = {"shuffle_seed": 8, "shuffle_buffer": 10}
    train = open_parts(published, **options)
    iterator = iter(train)
    seen = keys_of(next(iterator) for _ in range(17))
    program = (
        "import sys, json\nfrom tailforge import open_dataset\n"
        f"train = open_dataset({published.uri!r}, name='parts', **{options})\n"
        "train.load_state_dict(json.load(sys.stdin))\n"
        "print(*[sample['key'] for sample in train])"
    )
    state = json.dumps(train.state_dict())
    out = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, input=state, capture_output=True, text=True, check=True
    )
    assert seen + out.stdout.split() == keys_of(train)


class Stated(IterableDataset):  # type: ignore[type-arg]
    """What a stateful loader does in its workers: gives samples with the state after them, goes on from `states`."""

    def __init__(self, train: ShardedDataset, states: dict[int, Any]) -> None:
        self.train, self.states = train, states

    def __iter__(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        from torch.utils.data import get_worker_info

        worker = get_worker_info().id
        if worker in self.states:
            self.train.load_state_dict(self.states[worker])
        for sample in self.train:
            yield worker, sample["key"], self.train.state_dict()


@MANY_WORKERS
@pytest.mark.parametrize("stop", [1, 10, 30])
def test_workers_go_on_each_from_its_own_state(published: Store, keys: list[str], stop: int) -> None:
    train, seen, states = open_parts(published, shuffle_seed=2), [], {}
    for worker, key, state in DataLoader(Stated(train, {}), batch_size=None, num_workers=3, collate_fn=as_is):
        states[worker] = state
        seen.append(key)
        if len(seen) == stop:
            break
    rest = DataLoader(Stated(train, states), batch_size=None, num_workers=3, collate_fn=as_is)
    assert sorted(seen + [key for _, key, _ in rest]) == sorted(keys)


def test_a_stopped_iteration_does_not_move_the_next(published: Store, keys: list[str]) -> None:
    train = open_parts(published)
    next(iter(train))
    assert keys_of(train) == keys
    train.load_state_dict({**train.state_dict(), "position": 40})
    train.set_epoch(1)  # another epoch, from its beginning
    assert keys_of(train) == keys
    state = train.state_dict()
    pickle.loads(pickle.dumps(train)).load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"split": "test"}, "split is 'test', here it is 'train'"),
        ({"where": pc.field("class_id") == 1}, "where is '[0-9a-f]{64}', here it is ''"),
        ({"shuffle_seed": 1}, "shuffle_seed is 1, here it is None"),
        ({"rank": 0, "world_size": 2}, r"reader is \{.*'world_size': 2.*\}, here it is \{.*'world_size': 1"),
    ],
)
def test_the_state_of_another_reader_is_refused(published: Store, options: dict[str, Any], what: str) -> None:
    state = open_parts(published, **options).state_dict()
    with pytest.raises(ReadingError, match=f"belongs to another reader: its {what}"):
        open_parts(published).load_state_dict(state)


@pytest.mark.parametrize("state", [{}, {"position": 3}, {"format": "tailforge-reader/9"}])
def test_what_is_no_state_is_refused(published: Store, state: dict[str, Any]) -> None:
    with pytest.raises(ReadingError, match="its format is"):
        open_parts(published).load_state_dict(state)


class Refused(IterableDataset):  # type: ignore[type-arg]
    """What a worker says when it is to read."""

    def __init__(self, train: ShardedDataset) -> None:
        self.train = train

    def __iter__(self) -> Iterator[str]:
        with pytest.raises(ReadingError) as error:
            iter(self.train)
        yield str(error.value)


def test_a_state_is_not_for_the_workers_of_a_plain_loader(published: Store) -> None:
    """It was loaded outside of them, so each would skip as many samples of its own."""
    train = open_parts(published)
    train.load_state_dict({**train.state_dict(), "position": 10})
    for message in DataLoader(Refused(train), batch_size=None, num_workers=2, collate_fn=as_is):
        assert "belongs to another reader" in message
