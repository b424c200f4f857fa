"""What Prefect's page shows of a build: names of runs, a log line per step, artifacts that say how it went."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tailforge.flows.build.run_page import as_link, describe_changes, describe_outcome, write_markdown
from tests.support.tiny_recipes import write_recipe

ROWS = re.compile(r" \d+ rows?, ")


@pytest.fixture(scope="module")
def page(prefect_server: str, tiny_generator: Path, tmp_path_factory: pytest.TempPathFactory) -> "Page":
    """Three builds of one recipe: the first, one that finds nothing changed, and one with more images."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(tiny_generator, folder / "generator")
    return Page(folder)


class Page:
    """The runs of three builds as a client of the server finds them, the first first."""

    def __init__(self, folder: Path) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        from tailforge.flows.build_dataset import build_dataset

        self.store = folder / "store"
        runs = []
        for wanted in (2, 2, 3):
            recipe = write_recipe(folder, concepts=[{"name": "gear", "requested": wanted}])
            state = build_dataset(str(recipe), str(self.store), return_state=True)
            runs.append((state.state_details.flow_run_id, state.result()))
        self.made = [made for _, made in runs]
        with get_client(sync_client=True) as client:
            self.names = [client.read_flow_run(run).name for run, _ in runs]
            self.logs = [self.read_logs(client, run) for run, _ in runs]
            self.artifacts = []
            for run, _ in runs:
                wanted_run = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
                found = client.read_artifacts(flow_run_filter=wanted_run)
                self.artifacts.append({str(each.key).removeprefix("tiny-"): each for each in found})

    @staticmethod
    def read_logs(client: Any, run: Any) -> list[str]:
        from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
        from prefect.client.schemas.sorting import LogSort
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(timeout=60)
        ours = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
        return [line.message for line in client.read_logs(ours, sort=LogSort.TIMESTAMP_ASC)]


@pytest.mark.flow
def test_runs_are_named_by_dataset_and_version(page: Page) -> None:
    assert page.names == ["tiny 1.0.0", "tiny 1.0.0 (unchanged)", "tiny 1.1.0"]


@pytest.mark.flow
def test_the_log_has_a_line_per_step(page: Page) -> None:
    first, unchanged, _ = page.logs
    for stage, count in page.made[0]["work"].items():
        assert len([line for line in first if line.startswith(f"{stage} ") and ROWS.search(line)]) == count, stage
    assert not [line for line in unchanged if ROWS.search(line)]
    assert any(line.startswith("published: tiny 1.0.0, ") for line in first)
    assert any(line.startswith("unchanged: tiny 1.0.0, ") for line in unchanged)
    for lines, made in zip(page.logs, page.made, strict=True):
        assert any(line.startswith("verdict: ") for line in lines)
        assert f"report: {made['report']}" in lines


def test_the_log_ends_with_what_a_person_should_look_at() -> None:
    made = {"name": "tiny", "version": "1.2.0", "new": True, "samples": 9, "report": "/store/report/index.html"}
    verdict = {
        "text": "Complete, but worth a look",
        "findings": [{"text": "2 scores drifted: Mask area,\x1b[31m Sharpness"}],
    }
    assert describe_outcome(made, {"verdict": verdict}) == [
        "published: tiny 1.2.0, 9 images",
        "verdict: Complete, but worth a look",
        "to look at: 2 scores drifted: Mask area,\\x1b[31m Sharpness",
        "report: /store/report/index.html",
    ]
    assert not any(line.startswith("to look at") for line in describe_outcome(made, {}))


@pytest.mark.flow
def test_artifacts_tell_verdict_changes_yield_and_the_report(page: Page) -> None:
    first, unchanged, grown = (artifacts["version"].data for artifacts in page.artifacts)
    assert "There is no previous version" in first
    assert "Nothing since tiny 1.0.0" in unchanged
    assert "Since 1.0.0: 1 added, 0 removed, 0 changed." in grown
    assert "recipe: concepts.gear.requested from 2 to 3" in grown
    for text, made, artifacts in zip((first, unchanged, grown), page.made, page.artifacts, strict=True):
        assert f"`{made['report']}`" in text
        assert artifacts["report"].data.endswith(f"]({as_link(made['report'])})")
        assert artifacts["quotas"].description.startswith(f"tiny {made['version']}: ")
        assert artifacts["version"].description in text.replace("\\", "")
    rows = page.artifacts[2]["quotas"].data
    assert '"requested": 3, "accepted": 3' in rows
    assert '"yield"' in rows
    assert "| gear | 3 | 3 |" in grown


MADE = {"name": "a_b", "version": "2.0.0", "new": True, "samples": 1, "uri": "u", "report": "/r/index.html", "work": {}}


def test_names_that_others_chose_are_text_and_not_markup() -> None:
    change = {"name": "concepts.x.templates", "before": "", "after": "[a](javascript:b)\n\n# <b>*"}
    changes = {"previous": "1.0.0", "added": {}, "removed": {}, "changed": 0, "recipe": [change]}
    summary = {
        "verdict": {"text": "Fine | all", "findings": [{"text": "<script>\x1b[2J"}]},
        "changes": changes | {"models": [], "libraries": []},
    }
    text = write_markdown(MADE, summary, [{"concept": "x", "requested": 1, "accepted": 1}])
    assert "**Fine \\| all**" in text
    assert "\\<script\\>" in text
    assert "\x1b" not in text
    assert "from nothing to \\[a\\](javascript:b) \\# \\<b\\>\\*" in text


def test_many_changes_are_counted() -> None:
    changes = [{"name": f"n{number}", "before": "1", "after": "2"} for number in range(25)]
    told = describe_changes(
        MADE,
        {"changes": {"previous": "1.0.0", "added": {"x": 2}, "removed": {}, "changed": 1, "recipe": changes,
                     "models": [], "libraries": []}},
    )  # fmt: skip
    assert told[0] == "Since 1.0.0: 2 added, 0 removed, 1 changed."
    assert told[-1] == "- and 5 more, in the report"


def test_a_version_of_before_reports_had_a_summary_is_shown_without() -> None:
    text = write_markdown(MADE, {}, [{"concept": "x", "requested": 1, "accepted": 1}])
    assert "its report has no verdict" in text
    assert "| x | 1 | 1 |" in text
