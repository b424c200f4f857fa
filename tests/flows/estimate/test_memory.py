"""The memory that `tailforge plan --memory` predicts, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from tailforge.flows.estimate.memory import MemoryPlan, require_memory
from tailforge.schemas.errors import RecipeError
from tailforge.tasks.artifacts.memory import DeviceMemory
from tests.flows.conftest import Command

LARGE = ("--set", "engine.batch_size=1024", "--set", "partition_size=1024")


def plan(**changes: Any) -> MemoryPlan:
    """A batch of 4 on a device of 1000 bytes: 100 of weights, 20 beside, and 50 per image."""
    common: dict[str, Any] = {
        "device": DeviceMemory("cpu", 1000, 900),
        "dtype": "float32",
        "size": (64, 64),
        "batch": 4,
        "weights": 100,
        "beside": 20,
        "phases": {"denoise": 200, "decode": 100},
        "slopes": {"denoise": 50.0, "decode": 25.0},
        "keeps": False,
    }
    return MemoryPlan(**common | changes)


def test_the_largest_batch_fits_and_the_next_one_does_not() -> None:
    found = plan()
    assert found.peak == 320
    assert found.largest_batch == (1000 - 120) // 50
    require_memory(found)


def test_the_largest_batch_of_all_phases_counts() -> None:
    assert plan(slopes={"denoise": 50.0, "decode": 100.0}).largest_batch == 4 + (1000 - 120 - 100) // 100


def test_a_phase_that_does_not_grow_bounds_no_batch_unless_it_does_not_fit() -> None:
    fixed = {"slopes": {"denoise": 50.0, "text": 0.0}}
    assert plan(phases={"denoise": 200, "text": 880}, **fixed).largest_batch == 17
    assert plan(phases={"denoise": 200, "text": 881}, **fixed).largest_batch == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"phases": {"denoise": 2000}, "slopes": {"denoise": 400.0}, "batch": 5},
            "set engine.batch_size to 2 at most$",
        ),
        (
            {"phases": {"gradient": 2000}, "slopes": {"gradient": 400.0}, "batch": 5, "keeps": True},
            "set engine.batch_size to 2 at most, or set engine.checkpointing: true$",
        ),
        (
            {"phases": {"denoise": 2000}, "slopes": {"denoise": 2000.0}, "batch": 1},
            "a single image of 64 x 64 does not fit: set a smaller engine.height and engine.width$",
        ),
        (
            {"phases": {"gradient": 2000}, "slopes": {"gradient": 2000.0}, "batch": 1, "keeps": True},
            "a single image of 64 x 64 does not fit: set engine.checkpointing: true$",
        ),
        ({"weights": 3000}, "the models' weights alone need 3.02 kB: use a smaller generator"),
    ],
)
def test_what_cannot_fit_is_refused_with_the_setting_that_would(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        require_memory(plan(**changes))


@pytest.mark.flow
def test_a_plan_shows_the_memory_when_asked(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    code, out, err = command("plan", tiny_recipe, "--store", tmp_path / "store", "--memory", "--json")
    assert code == 0, err
    found = json.loads(out)["memory"]
    assert set(found["phases"]) == {"text", "denoise", "decode"}
    assert found["batch"] == 4 < found["largest_batch"]
    assert found["peak"] == found["weights"] + found["beside"] + max(found["phases"].values())
    assert "memory" not in json.loads(command("plan", tiny_recipe, "--store", tmp_path / "store", "--json")[1])


@pytest.mark.flow
def test_a_batch_too_large_for_an_accelerator_is_refused(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    words = ("plan", tiny_recipe, "--store", tmp_path / "store", "--accelerator-memory", "0.1", *LARGE)
    code, out, err = command(*words)
    assert code == 2
    assert "predicted memory" in out
    assert "engine.batch_size 1024 needs" in err
    most = int(err.split("set engine.batch_size to ")[1].split()[0])
    code, _, err = command(*words, "--set", f"engine.batch_size={most}", "--set", f"partition_size={most}")
    assert code == 0, err


@pytest.mark.flow
def test_a_search_counts_its_gradients(command: Command, tmp_path: Path) -> None:
    peaks = {}
    for kept in ("true", "false"):
        words = ("--memory", "--json", "--set", f"engine.checkpointing={kept}")
        code, out, err = command("plan", "workshop_rare", "--store", tmp_path / "store", *words)
        assert code == 0, err
        peaks[kept] = json.loads(out)["memory"]["phases"]
        assert max(peaks[kept], key=peaks[kept].get) == "gradient"
    # 16 steps are kept instead of one.
    assert peaks["false"]["gradient"] > 8 * peaks["true"]["gradient"]


@pytest.mark.flow
def test_an_engine_without_a_pipeline_is_refused(command: Command, tmp_path: Path) -> None:
    code, _, err = command("plan", "workshop_inversion", "--store", tmp_path / "store", "--memory")
    assert code == 2
    assert "the memory of engine natural_inversion is not predicted" in err
