"""A line while a command says nothing: what it works on, how far it is, for how long."""

import re
import threading
import time

import pytest

from tailforge.flows.terminal import heartbeat
from tailforge.flows.terminal.build_progress import PlainProgress
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.under_way import count, list_pieces, tell, working
from tailforge.tasks.methods.sampling.clock import Clock
from tests.support.stages import step_of

LINE = re.compile(r"at work on (.+)(, |: )for \d+ s$")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE_S", 0.05)


def await_line(capsys: pytest.CaptureFixture[str], wanted: str) -> None:
    """Until a silence is broken by this line, without how long; a line before it may tell of what was before."""
    heard: list[str] = []
    until = time.monotonic() + 240
    while time.monotonic() < until:
        heard += capsys.readouterr().err.splitlines()
        if wanted in [found[1] for found in map(LINE.match, heard) if found is not None]:
            return
        time.sleep(0.02)
    raise AssertionError(f"{wanted!r} was not said: {heard[-20:]}")


def test_a_silence_says_how_far_the_work_is(capsys: pytest.CaptureFixture[str]) -> None:
    with heartbeat.break_silence("build"), working("samples: gear #0"):
        tell("image", 4, 16)
        for number in count(range(1, 4), "step", 50):
            await_line(capsys, f"samples: gear #0: image 4 of 16, step {number} of 50")
        with Clock().phase("load"):
            await_line(capsys, "samples: gear #0: image 4 of 16, step 3 of 50, loading models")
    assert list_pieces() == []
    capsys.readouterr()
    time.sleep(0.3)
    assert capsys.readouterr().err == ""


def test_a_command_of_which_nothing_is_known_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with heartbeat.break_silence("distill"):
        await_line(capsys, "distill")


def test_steps_of_other_processes_are_named_while_nothing_is_done_here(capsys: pytest.CaptureFixture[str]) -> None:
    step = step_of("samples", "gear #0")
    receipt = Receipt(
        stage="samples", fingerprint="", part=0, label="gear #0", uri="", sha256="", rows=4, bytes=0
    )  # fmt: skip
    with heartbeat.break_silence("build"), PlainProgress() as progress:
        progress.begin("", ["samples"], 1)
        progress.start(step)
        await_line(capsys, "samples: gear #0")
        progress.advance(step, receipt, False)
        assert progress.describe() == []


def test_of_many_pieces_some_are_named_and_those_that_wait_last() -> None:
    begun, ended = threading.Barrier(6), threading.Event()

    def work(number: int) -> None:
        with working(f"samples: gear #{number}"), Clock().phase("wait" if number < 3 else "sample"):
            begun.wait()
            ended.wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    begun.wait()
    try:
        lines = heartbeat.describe_work("build")
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert sorted(line.split(":")[1] for line in lines[:2]) == [" gear #3", " gear #4"]
    assert "waiting for its turn" in lines[2]
    assert lines[3:] == ["2 more"]


def test_other_lines_keep_a_heartbeat_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE_S", 30.0)
    with heartbeat.break_silence("build"):
        heartbeat.say("samples 1/2")
        time.sleep(0.3)
    assert capsys.readouterr().err == "samples 1/2\n"


def test_a_silence_begins_with_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat.say("a command before it")
    monkeypatch.setattr(heartbeat, "SILENCE_S", 30.0)
    monkeypatch.setattr(heartbeat, "_last_said", time.monotonic() - 1000)
    with heartbeat.break_silence("build"):
        time.sleep(0.3)
    assert capsys.readouterr().err == "a command before it\n"
