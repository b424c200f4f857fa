"""What a build shows while it runs, without a terminal and on one."""

import pytest

from tailforge.flows.terminal.build_progress import PlainProgress, TerminalProgress
from tailforge.schemas.receipts import Receipt
from tests.support.stages import step_of


def finish(progress: PlainProgress | TerminalProgress, stage: str, label: str, *, cached: bool = False) -> None:
    step = step_of(stage, label)
    receipt = Receipt(stage=stage, fingerprint="", part=0, label=label, uri="", sha256="", rows=4, bytes=0)
    progress.advance(step, receipt, cached)


def test_every_stage_begins_with_a_line_and_counts_to_its_own_total(capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainProgress()
    progress.begin("", ["aims"], 1)
    finish(progress, "aims", "aim of gear")
    progress.begin("round 1 of at most 2, 8 images", ["samples", "masks"], 2)
    finish(progress, "samples", "gear #0", cached=True)
    finish(progress, "samples", "gear #1")
    finish(progress, "masks", "gear #0")
    progress.begin("round 2 of at most 2, 4 images", ["samples", "masks"], 1)
    finish(progress, "samples", "gear #2")
    assert capsys.readouterr().err.splitlines() == [
        "aims: 1 partition",
        "aims 1/1: aim of gear, 4 rows, 0.0 s",
        "samples, masks: 2 partitions, round 1 of at most 2, 8 images",
        "samples 2/2: gear #1, 4 rows, 0.0 s",
        "masks 1/2: gear #0, 4 rows, 0.0 s",
        "samples, masks: 1 partition, round 2 of at most 2, 4 images",
        "samples 1/1: gear #2, 4 rows, 0.0 s",
    ]


def test_a_bar_is_full_at_the_end_of_its_round_and_begins_anew() -> None:
    progress = TerminalProgress()

    def bar() -> tuple[str, float, float | None, str]:
        (task,) = progress.bars.tasks
        return task.description, task.completed, task.total, task.fields["note"]

    progress.begin("round 1 of at most 2, 8 images", ["samples"], 2)
    assert bar() == ("samples", 0, 2, "round 1 of at most 2, 8 images")
    finish(progress, "samples", "gear #0", cached=True)
    finish(progress, "samples", "gear #1")
    assert bar() == ("samples", 2, 2, "gear #1")
    progress.begin("round 2 of at most 2, 4 images", ["samples"], 1)
    assert bar() == ("samples", 0, 1, "round 2 of at most 2, 4 images")
