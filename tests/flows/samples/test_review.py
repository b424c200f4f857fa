"""`tailforge review` on a tiny generator: what a person decides is in the next version."""

import json
import os
import pwd
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.flows.samples.review import ReviewedSamples, open_version
from tailforge.flows.samples.review_build import open_build
from tailforge.schemas.errors import NotFoundError
from tests.flows.conftest import Command, build, rows_of, start_from_build
from tests.support.repository import ROOT

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]


def sample_ids(made: dict[str, Any]) -> set[str]:
    return {row["sample_id"] for row in rows_of(made)}


def reasons(made: dict[str, Any]) -> dict[str, str]:
    return {row["sample_id"]: row["reason"] for row in rows_of(made, "rejects")}


def open_tiny(made: dict[str, Any], store: Path) -> ReviewedSamples:
    return open_version(f"tiny@{made['version']}", str(store))


def difference(command: Command, store: Path, before: dict[str, Any], after: dict[str, Any]) -> tuple[int, int, int]:
    """Rows added, removed and changed, as `diff` tells them."""
    versions = [f"tiny@{made['version']}" for made in (before, after)]
    found = json.loads(command("diff", *versions, "--store", store, "--json")[1])
    return found["added"], found["removed"], found["changed"]


def test_a_rejected_sample_is_gone_and_comes_back(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = start_from_build(command, tiny_recipe, store)
    unwanted = min(sample_ids(first))
    open_tiny(first, store).decide(unwanted, "reject", "deformed")
    status = json.loads(command("status", tiny_recipe, "--store", store, "--json")[1])
    assert status["complete"] is False

    second = build(command, tiny_recipe, store)
    assert {stage for stage, count in second["work"].items() if count} == {"selection", "shard_plan", "shards"}
    assert unwanted not in sample_ids(second)
    assert reasons(second)[unwanted] == "review_rejected"
    added, removed, changed = difference(command, store, first, second)
    assert (removed, changed) == (1, 0)
    assert added == 1  # a surplus sample takes its place
    assert "Rejected by a person" in Path(second["report"]).read_text()
    assert verify(Store.open(str(store)), "tiny") == []
    assert build(command, tiny_recipe, store)["new"] is False

    open_tiny(second, store).decide(unwanted, None)
    third = build(command, tiny_recipe, store)
    assert sample_ids(third) == sample_ids(first)


def test_an_accepted_sample_passes_its_gate(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    loose = start_from_build(command, tiny_recipe, store)
    high = sorted(row["sharpness"] for row in rows_of(loose))[-4]  # so that the quota is far
    strict = ("--set", f"quality.gates.sharpness.min={high}", "--set", "quality.max_rounds=1")
    first = build(command, tiny_recipe, store, *strict)
    wanted = min(name for name, reason in reasons(first).items() if reason == "sharpness_low")
    open_tiny(first, store).decide(wanted, "accept")
    second = build(command, tiny_recipe, store, *strict)
    assert sample_ids(second) == sample_ids(first) | {wanted}
    assert difference(command, store, first, second) == (1, 0, 0)


def test_decisions_on_what_is_rejected_anyway_come_and_go(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = start_from_build(command, tiny_recipe, store)
    spare = min(name for name, reason in reasons(first).items() if reason == "surplus")
    open_tiny(first, store).decide(spare, "reject")
    second = build(command, tiny_recipe, store)
    assert reasons(second)[spare] == "review_rejected"
    assert build(command, tiny_recipe, store)["new"] is False
    open_tiny(second, store).decide(spare, None)
    assert reasons(build(command, tiny_recipe, store))[spare] == "surplus"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("named", "expected"),
    [(["--reviewer", "Ada"], "Ada"), ([], pwd.getpwuid(os.getuid()).pw_name)],
    ids=["named", "whoever runs it"],
)
def test_the_command_serves_until_it_is_interrupted(
    named: list[str], expected: str, command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    made = start_from_build(command, tiny_recipe, store)
    words = ["-m", "tailforge", "review", "tiny", "--store", str(store), "--no-open", *named]
    nameless = {name: value for name, value in os.environ.items() if name not in ("LOGNAME", "USER")}
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=nameless,
        stdout=subprocess.PIPE,
        text=True,
        # A test run in the background ignores ctrl-C, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(f"{address}samples") as answer:
                assert sample_ids(made) <= {each["id"] for each in json.load(answer)["samples"]}
            body = json.dumps({"sample_id": min(sample_ids(made)), "decision": "accept"}).encode()
            wish = urllib.request.Request(f"{address}decisions", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(wish) as answer:
                assert json.load(answer)["decision"]["reviewer"] == expected
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
            assert "1 accepted, 0 rejected" in process.stdout.read()
        finally:
            process.kill()
    code, out, err = command("review", "nuts", "--store", store, "--no-open")
    assert (code, out) == (2, "")
    assert "has no dataset 'nuts'; it has: tiny" in err


def test_a_decision_on_an_image_that_is_drawn_otherwise_now_is_passed_over(
    command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    first = start_from_build(command, tiny_recipe, store)
    unwanted = min(sample_ids(first))
    open_tiny(first, store).decide(unwanted, "reject")
    assert unwanted in sample_ids(build(command, tiny_recipe, store, "--set", "engine.steps=3"))


def test_what_a_stopped_build_has_drawn_is_reviewed(
    command: Command, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    with pytest.raises(NotFoundError, match="nothing of tiny is drawn yet"):
        open_build(str(tiny_recipe), str(store))
    with monkeypatch.context() as bug:
        bug.setattr("tailforge.tasks.stages.selection.select_rows", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            command("build", tiny_recipe, "--store", store)
    drawn = open_build(str(tiny_recipe), str(store))
    shown = drawn.list_samples()
    assert {each["state"] for each in shown} == {"accepted"}  # its gates pass nearly all
    assert all(each["scores"]["contrast"] > 0 and each["caption"] for each in shown)
    unwanted = next(each for each in shown if each["has_mask"])["id"]
    assert drawn.read_image(unwanted)[0].startswith(b"\x89PNG")
    assert drawn.read_overlay(unwanted)[0].startswith(b"\x89PNG")
    drawn.decide(unwanted, "reject", "deformed")

    made = build(command, tiny_recipe, store)
    assert {row["sample_id"] for row in rows_of(made)}.isdisjoint({unwanted})
    assert reasons(made)[unwanted] == "review_rejected"
    again = {each["id"]: each for each in open_build(str(tiny_recipe), str(store)).list_samples()}
    assert again[unwanted]["state"] == "rejected"
    assert {name for name, each in again.items() if each["state"] == "accepted"} == sample_ids(made)


def test_samples_without_verdict_say_so(
    command: Command, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    with monkeypatch.context() as bug:
        bug.setattr("tailforge.tasks.stages.work.verdicts.judge_items", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            command("build", tiny_recipe, "--store", store)
    assert {each["state"] for each in open_build(str(tiny_recipe), str(store)).list_samples()} == {"unjudged"}
    code, _, err = command("review", "tiny", "--set", "seed=2", "--store", store, "--no-open")
    assert code == 2
    assert "give --build with it" in err
