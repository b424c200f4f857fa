"""What `tailforge doctor` says of this machine, and of machines that lack something."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.sources.recipes import recipe_names
from tailforge.flows.doctor.findings import Finding, examine
from tailforge.schemas.errors import StoreAccessError
from tailforge.tasks.artifacts.accelerators import list_accelerators
from tests.flows.conftest import Command


@pytest.fixture
def ask(command: Command, tmp_path: Path) -> Any:
    """The exit code of the command, its findings by topic, and its recipes by name."""

    def run(*words: str | Path) -> tuple[int, dict[str, Any], dict[str, Any]]:
        store = () if "--store" in words else ("--store", tmp_path / "store")
        code, out, _ = command("doctor", "--json", *store, *words)
        said = json.loads(out)
        assert said["builds"] == (code == 0)
        findings = {each["topic"]: each for each in said["findings"]}
        assert all(bool(each["mend"]) == (each["state"] != "ok") for each in findings.values())
        return code, findings, {each["recipe"]: each for each in said["recipes"]}

    return run


def test_this_machine_builds_and_its_recipes_are_measured(ask: Any, tmp_path: Path) -> None:
    code, findings, recipes = ask("--seconds", "0.1")
    assert code == 0
    assert {each["state"] for each in findings.values()} <= {"ok", "limited"}
    assert set(recipes) == set(recipe_names())
    assert all(each["fits"] and 0 < each["weights"] < each["memory"] for each in recipes.values())
    assert recipes["workshop"]["seconds"] > 0
    assert recipes["workshop_rare"]["seconds"] is None
    assert not (tmp_path / "store").exists()


def test_without_seconds_nothing_is_drawn(ask: Any) -> None:
    assert {each["seconds"] for each in ask("--seconds", "0")[2].values()} == {None}


def test_a_store_that_cannot_be_made_is_broken(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, findings, _ = ask("--seconds", "0", "--store", tmp_path / "file")
    assert (code, findings["store"]["state"]) == (1, "broken")


def test_a_server_that_does_not_answer_is_broken(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    code, findings, _ = ask("--seconds", "0")
    assert (code, findings["Prefect server"]["state"]) == (1, "broken")
    assert "no Prefect server answers" in findings["Prefect server"]["found"]


def test_a_machine_without_browser_and_fonts_builds(ask: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, findings, _ = ask("--seconds", "0")
    assert code == 0
    assert [findings[topic]["state"] for topic in ("Chromium", "fonts")] == ["limited", "limited"]


def test_a_person_reads_what_to_do(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, told, _ = command("doctor", "--store", tmp_path / "store", "--seconds", "0")
    assert code == 0
    assert "Chromium: install Debian's package `chromium`" in told
    assert told.endswith("builds work here\n")


def test_an_accelerator_that_torch_cannot_use_is_a_limit(
    ask: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch can use an accelerator here")
    program = tmp_path / "nvidia-smi"  # the driver's program of another machine
    program.write_text("#!/bin/sh\necho '0, GPU-1, NVIDIA H200, 143771, 143000, 570.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    list_accelerators.cache_clear()
    code, findings, _ = ask("--seconds", "0")
    list_accelerators.cache_clear()
    assert code == 0
    assert findings["accelerator 0"]["found"] == "NVIDIA H200, 150 GB free of 151 GB, driver 570.1"
    assert findings["torch"]["state"] == "limited"


@pytest.mark.parametrize(
    ("error", "state", "found", "mend"),
    [
        (StoreAccessError("it is gone"), "broken", "it is gone", "do what the message says"),
        (ModuleNotFoundError("no", name="torch"), "broken", "torch is not installed", "install the extra"),
        (SystemError("a\nb"), "broken", "it could not be examined: SystemError: a b", "report"),
    ],
)
def test_whatever_a_look_raises_is_a_finding(error: Exception, state: str, found: str, mend: str) -> None:
    def look() -> Iterator[Finding]:
        yield Finding("first", "ok", "seen")
        raise error

    first, second = examine("topic", look)
    assert first == Finding("first", "ok", "seen")
    assert (second.topic, second.state, second.found) == ("topic", state, found)
    assert second.mend.startswith(mend)
