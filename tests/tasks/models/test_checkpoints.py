"""Checkpoints are replaced whole, and only the recipe that made one may go on from it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tailforge.schemas.errors import TrainingError
from tailforge.tasks.methods.training_loop import Learner
from tailforge.tasks.models.checkpoints import Checkpointer, load_checkpoint, read_seconds, save_checkpoint


def learner() -> Learner:
    return Learner({"layer": nn.Linear(2, 2)}, ema_decay=0.9)


def always_same(step: int) -> str:
    return "digest"


def test_saved_state_is_read_back(tmp_path: Path) -> None:
    state = learner().state()
    save_checkpoint(tmp_path / "a" / "c.safetensors", state, "digest", 12.5)
    found = load_checkpoint(tmp_path / "a" / "c.safetensors", always_same)
    assert found is not None
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert read_seconds(tmp_path / "a" / "c.safetensors") == 12.5


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "c.safetensors", always_same) is None
    assert read_seconds(tmp_path / "c.safetensors") == 0.0


def test_other_settings_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.safetensors", learner().state(), "older", 0.0)
    with pytest.raises(TrainingError, match=r"c.safetensors was made under other settings \(older, now digest\)"):
        load_checkpoint(tmp_path / "c.safetensors", always_same)


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, learner().state(), "digest", 0.0)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(TrainingError, match="is damaged"):
        load_checkpoint(path, always_same)


def test_a_kill_while_writing_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, learner().state(), "digest", 1.0)
    path.with_suffix(".tmp").write_bytes(b"half of a file")
    assert load_checkpoint(path, always_same) is not None
    save_checkpoint(path, learner().state(), "digest", 2.0)
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize(("every_s", "saves"), [(0.0, True), (1000.0, False)])
def test_saves_when_it_is_time(tmp_path: Path, every_s: float, saves: bool) -> None:
    path = tmp_path / "c.safetensors"
    assert Checkpointer(path, always_same, every_s)(learner()) is saves
    assert path.exists() is saves


def test_seconds_go_on_over_a_resumption(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, learner().state(), "digest", 100.0)
    assert Checkpointer(path, always_same, 1000.0).seconds >= 100.0
