"""The commands of the tutorial from photographs to a gain run in their order, as they are written, with less to do."""

import json
from pathlib import Path

import pytest
import typer

from tests.flows.conftest import Command
from tests.support.repository import ROOT
from tests.support.shown_commands import FENCE, split_commands

pytestmark = [
    pytest.mark.flow,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]
PAGE = ROOT / "docs" / "tutorials" / "photographs-to-a-gain.md"
RARE = {"cross fitting", "hook", "star knob", "wing nut"}
FEWER = [
    word
    for each in (
        *(f"concepts.{name}.requested=2" for name in sorted(RARE)),
        *("engine.steps=2", "engine.batch_size=2", "engine.candidates=2", "engine.plain_samples=8"),
        *("quality.gates=none", "quality.scorer=null", "quality.near_duplicates=null", "quality.oversample=1"),
    )
    for word in ("--set", each)
]
SHORTER = {
    "plan": FEWER,
    "build": FEWER,
    "evaluate": ["--steps", "2", "--checks", "1", "--batch", "4", "--seeds", "2", "--json"],
}


def list_commands() -> list[tuple[str, ...]]:
    """Return the words of every command that the page shows, in their order."""
    blocks = [block[2] for block in FENCE.finditer(PAGE.read_text(encoding="utf-8"))]
    return [words[1:] for block in blocks for words in split_commands(block) if words[0] == "tailforge"]


def test_the_commands_lead_from_photographs_to_a_verdict(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(typer, "launch", lambda uri: None)
    order, records = [], []
    for words in list_commands():
        code, out, err = command(*words, *SHORTER.get(words[0], []))
        assert code == 0, f"{words}: {err}"
        order.append(words[0])
        records += [json.loads(out)] if words[0] == "evaluate" else []

    assert list(dict.fromkeys(order)) == ["example", "init", "plan", "build", "report", "evaluate", "show"]
    first, second = records
    assert {each["name"] for each in first["classes"] if each["group"] == "few"} == RARE
    assert {"real", "balanced", "augmented", "copies", "mixed", "alone"} <= {each["arm"] for each in first["arms"]}
    assert first["exchange"] is None
    assert second["exchange"] is not None
