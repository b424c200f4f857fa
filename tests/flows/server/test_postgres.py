"""Nights in production: a Prefect server on PostgreSQL, a deployment, workers, and what may happen to them.

Everything is the real thing, started by the commands of docs/how-to/nightly.md: the database, the server,
`tailforge setup`, `prefect deploy`, workers. Only waiting times are shorter.
"""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tailforge.catalog.registry import list_versions
from tailforge.catalog.store import Store
from tests.support.postgres import needs_postgres, run_postgres
from tests.support.prefect_servers import ROOT, Server, ask, run_server, wait_for
from tests.support.tiny_recipes import write_recipe

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(900), needs_postgres]

DEPLOYMENT = "build-dataset/nightly"
DEAD_AFTER_S = 60
LEASES = "prefect.server.concurrency.lease_storage.filesystem"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on PostgreSQL that was set up, with the deployment of prefect.yaml."""
    folder = tmp_path_factory.mktemp("server")
    with run_postgres() as database, run_server(
        database,
        folder,
        PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=LEASES,
        PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS="1",
        PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED="events,flow_runs",
        PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS="1",
    ) as started:  # fmt: skip
        made = json.loads(started.run("tailforge", "setup", "--cpu", "2", "--dead-after", str(DEAD_AFTER_S), "--json"))
        assert made["retention"] == {"flow_runs_days": 90.0, "events_days": 7.0}
        started.run("prefect", "--no-prompt", "deploy", "--name", "nightly", TAILFORGE_STORE=str(folder / "store"))
        yield started


class Nights:
    """The runs of the deployment with a recipe and a store of one's own, asked for through the server's API."""

    def __init__(self, server: Server, recipe: Path, store: Path) -> None:
        self.api, self.recipe, self.store = server.api, recipe, store
        found = ask(f"{self.api}/deployments/name/{DEPLOYMENT}")
        self.deployment = found["id"]

    def begin(self, due: datetime | None = None) -> UUID:
        """A new run, due now or at another time."""
        wanted: dict[str, Any] = {"parameters": {"recipe": str(self.recipe), "store": str(self.store)}}
        if due is not None:
            when = {"scheduled_time": due.isoformat()}
            wanted["state"] = {"type": "SCHEDULED", "name": "Scheduled", "state_details": when}
        return UUID(ask(f"{self.api}/deployments/{self.deployment}/create_flow_run", wanted)["id"])

    def place(self, state: str, *, deployed: bool) -> UUID:
        """A run in a state, of which nothing more is ever heard; of a deployment without limits, or of none."""
        flow = ask(f"{self.api}/deployments/{self.deployment}")["flow_id"]
        path = "flow_runs/"
        if deployed:
            lone = ask(f"{self.api}/deployments/", {"name": "lone", "flow_id": flow})["id"]
            path = f"deployments/{lone}/create_flow_run"
        made = ask(f"{self.api}/{path}", {} if deployed else {"flow_id": flow})
        asked = {"state": {"type": state.upper(), "name": state}, "force": True}
        ask(f"{self.api}/flow_runs/{made['id']}/set_state", asked)
        return UUID(made["id"])

    def run(self, run: UUID) -> dict[str, Any]:
        return ask(f"{self.api}/flow_runs/{run}")  # type: ignore[no-any-return]

    def end(self, run: UUID) -> dict[str, Any]:
        """The run when it has ended."""
        final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        wait_for("the run's end", lambda: self.run(run)["state_type"] in final)
        return self.run(run)

    def retry(self, run: UUID) -> None:
        """What the page's button Retry sends."""
        state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
        asked = {"state": state, "force": False}
        made = ask(f"{self.api}/flow_runs/{run}/set_state", asked)
        assert made["status"] == "ACCEPT", made

    def drawn(self, run: UUID) -> int:
        """Tasks of the run, its retries included, that drew samples."""
        wanted = {
            "flow_runs": {"id": {"any_": [str(run)]}},
            "task_runs": {"name": {"like_": "samples:"}},
        }
        return int(ask(f"{self.api}/task_runs/count", wanted))

    def versions(self) -> list[str]:
        return list_versions(Store.open(str(self.store)), "tiny")

    def receipts(self) -> dict[str, int]:
        """Every finished partition of samples with the moment it was written; one drawn twice would be newer."""
        found = self.store.glob("artifacts/samples/*/part-*.json")
        return {str(path.relative_to(self.store)): path.stat().st_mtime_ns for path in found}


@pytest.fixture
def nights(server: Server, tiny_recipe: Path, tmp_path: Path) -> Nights:
    return Nights(server, tiny_recipe, tmp_path / "store")


def test_a_version_each_night_only_when_something_changed(server: Server, nights: Nights) -> None:
    with server.worker():
        for _ in range(2):
            assert nights.end(nights.begin())["state_type"] == "COMPLETED"
            assert nights.versions() == ["1.0.0"]
        write_recipe(
            nights.recipe.parent, concepts=[{"name": "gear", "requested": 11}, {"name": "bench", "requested": 6}]
        )
        assert nights.end(nights.begin())["state_type"] == "COMPLETED"
        assert nights.versions() == ["1.0.0", "1.1.0"]


def test_a_late_run_is_made_up_for_and_runs_take_turns(server: Server, nights: Nights) -> None:
    """The worker was away in the night; when it is back, another run is due as well."""
    late = nights.begin(datetime.now(UTC) - timedelta(hours=3))
    wait_for("the run to be late", lambda: nights.run(late)["state_name"] == "Late")
    with server.worker():
        runs = [late, nights.begin()]
        ended = sorted((nights.end(run) for run in runs), key=lambda run: run["start_time"])
    assert [run["state_type"] for run in ended] == ["COMPLETED", "COMPLETED"]
    assert ended[0]["end_time"] <= ended[1]["start_time"], "two runs of one deployment ran at once"
    assert nights.versions() == ["1.0.0"]
    assert sorted(nights.drawn(run) > 0 for run in runs) == [False, True]


def test_the_run_of_a_dead_machine_is_marked_and_retried(server: Server, nights: Nights) -> None:
    """The machine dies in the middle of synthesis: nobody is left who could report it.

    So it is with a run that died before its first heartbeat. A run by hand never sends one, and is left alone.
    """
    concepts = [{"name": "gear", "requested": 90}, {"name": "bench", "requested": 60}]
    write_recipe(nights.recipe.parent, concepts=concepts)
    with server.worker() as worker:
        run = nights.begin()
        wait_for("the first samples", lambda: len(nights.receipts()) > 3)
        worker.kill_all()
    claimed, by_hand = nights.place("Pending", deployed=True), nights.place("Running", deployed=False)
    assert nights.run(run)["state_name"] == "Running"
    before = nights.receipts()
    crashed = nights.end(run)
    assert crashed["state_type"] == "CRASHED"
    assert f"Nothing was heard of this run for {DEAD_AFTER_S} s" in crashed["state"]["message"]
    assert nights.end(claimed)["state_type"] == "CRASHED"
    assert nights.run(by_hand)["state_type"] == "RUNNING"
    nights.retry(run)
    with server.worker():
        assert nights.end(run)["state_type"] == "COMPLETED"
    assert nights.versions() == ["1.0.0"]
    after = nights.receipts()
    assert len(after) > len(before)
    assert {name: after[name] for name in before} == before, "finished partitions were drawn again"


def leave_models(folder: str, names: list[str]) -> set[str]:
    """Weights are linked, not copied; see shutil.copytree."""
    return {"models"} & set(names) if Path(folder).name == "catalog" else set()


def test_a_retry_from_the_page_after_a_bug_draws_no_sample_again(
    server: Server, nights: Nights, tmp_path: Path
) -> None:
    """The code that the worker runs has a bug in one stage; it is mended, and Retry is pressed."""
    code = tmp_path / "code"
    shutil.copytree(ROOT / "src" / "tailforge", code / "tailforge", ignore=leave_models)
    (code / "tailforge" / "catalog" / "models").symlink_to(ROOT / "catalog" / "models")
    stage = code / "tailforge" / "tasks" / "stages" / "selection.py"
    whole = stage.read_text()
    broken = whole.replace("    return select_rows(", "    1 / 0\n    return select_rows(")
    assert broken != whole
    stage.write_text(broken)
    with server.worker(PYTHONPATH=str(code)):
        run = nights.begin()
        failed = nights.end(run)
        assert (failed["state_type"], nights.versions()) == ("FAILED", [])
        assert "ZeroDivisionError" in failed["state"]["message"]
        drawn, before = nights.drawn(run), nights.receipts()
        assert drawn == len(before) > 0
        stage.write_text(whole)
        nights.retry(run)
        wait_for("the retry", lambda: nights.run(run)["state_type"] != "FAILED")
        assert nights.end(run)["state_type"] == "COMPLETED"
    assert nights.versions() == ["1.0.0"]
    assert nights.drawn(run) == drawn
    assert nights.receipts() == before
