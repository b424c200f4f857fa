"""Schedules that a real server itself makes due: no run is asked for here, a version comes by the clock alone.

On SQLite by `tailforge serve`, on PostgreSQL by prefect.yaml, `prefect deploy` and a worker. And servers that answer
and take schedules, but make no runs.
"""

import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml

from tailforge.catalog.registry import list_versions
from tailforge.catalog.store import Store
from tailforge.flows.server.check_scheduler import PATIENCE_S
from tests.support.postgres import needs_postgres, run_postgres
from tests.support.prefect_servers import PROGRAMS, ROOT, Server, run_server, start, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(900)]

EVERY_MINUTE = "* * * * *"


def wait_for_version(store: Path) -> None:
    wait_for("the version", lambda: list_versions(Store.open(str(store)), "tiny") == ["1.0.0"])


def test_a_served_recipe_is_built_when_the_server_says_so(
    lasting_server: Server, tiny_recipe: Path, tmp_path: Path
) -> None:
    words = ["tailforge", "serve", str(tiny_recipe), "--store", str(tmp_path / "store"), "--cron", EVERY_MINUTE]
    with start(words, lasting_server.environment, tmp_path / "serve.log") as serving:
        wait_for_version(tmp_path / "store")
        assert "the server scheduled it; next at " in serving.log.read_text()


def write_project(folder: Path, recipe: Path) -> None:
    """The prefect.yaml of the repository for a recipe of one's own, due every minute."""
    project = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    (deployment,) = project["deployments"]
    deployment["parameters"]["recipe"] = str(recipe)
    deployment["schedules"][0]["cron"] = EVERY_MINUTE
    folder.mkdir()
    (folder / "prefect.yaml").write_text(yaml.safe_dump(project))


@needs_postgres
def test_a_deployed_recipe_is_built_when_the_server_says_so(tiny_recipe: Path, tmp_path: Path) -> None:
    write_project(tmp_path / "project", tiny_recipe)
    with run_postgres() as database, run_server(database, tmp_path) as server:
        server.run("tailforge", "setup")
        deploy = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file"]
        server.run(*deploy, str(tmp_path / "project" / "prefect.yaml"), TAILFORGE_STORE=str(tmp_path / "store"))
        (told,) = json.loads(server.run("tailforge", "setup", "--json"))["deployments"]
        assert (told["name"], told["work_pool"]) == ("build-dataset/nightly", "cpu")
        assert told["next"]
        with server.worker():
            wait_for_version(tmp_path / "store")


@contextmanager
def scheduler_off(folder: Path) -> Iterator[Server]:
    """A server whose scheduler was switched off."""
    address = f"sqlite+aiosqlite:///{folder}/prefect.db"
    settings = {"PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false"}
    with run_server(address, folder, PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS="1", **settings) as server:
        yield server


@contextmanager
def scheduler_fails(folder: Path) -> Iterator[Server]:
    """A server whose scheduler runs, and whose database takes none of the runs that it makes."""
    file = folder / "prefect.db"
    with run_server(
        f"sqlite+aiosqlite:///{file}", folder, PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS="1"
    ) as server:
        with closing(sqlite3.connect(file, timeout=60)) as database:
            database.execute("CREATE TRIGGER none BEFORE INSERT ON flow_run BEGIN SELECT RAISE(ABORT, 'none'); END")
        yield server


@pytest.mark.parametrize("broken", [scheduler_off, scheduler_fails])
def test_a_server_that_makes_no_runs_is_told_within_an_interval(
    broken: Callable[[Path], "contextmanager[Server]"], tiny_recipe: Path, tmp_path: Path
) -> None:
    with broken(tmp_path) as server:  # type: ignore[attr-defined]
        for words in (["setup"], ["serve", str(tiny_recipe), "--store", str(tmp_path / "store")]):
            command = [str(PROGRAMS / "tailforge"), *words]
            ended = subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=300)
            assert ended.returncode == 1
            waited = f"within {1 + PATIENCE_S:.0f} s"
            assert f"the Prefect server at {server.api} made no run of a schedule {waited}" in ended.stderr
            assert "below 2.1" in ended.stderr
            assert ("SCHEDULER_ENABLED=false" in ended.stderr) == (broken is scheduler_off)
            assert "Traceback" not in ended.stderr
