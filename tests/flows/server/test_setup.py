"""`tailforge setup` and prefect.yaml on a real Prefect server: made once, found again, changed only when told."""

import importlib
import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from tests.flows.conftest import Command
from tests.support.repository import ROOT, SHIPPED

pytestmark = pytest.mark.flow


@pytest.fixture
def bare_server(at_lasting_server: str) -> str:
    """A server without work pools, automations and deployments."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for pool in client.read_work_pools():
            client.delete_work_pool(pool.name)
        for automation in client.read_automations():
            client.delete_automation(automation.id)
        for deployment in client.read_deployments():
            client.delete_deployment(deployment.id)
    return at_lasting_server


def done(command: Command, *words: str) -> dict[str, Any]:
    """What `tailforge setup --json` tells, with the work pools by name."""
    code, out, err = command("setup", "--json", *words)
    assert code == 0, err
    made = json.loads(out)
    return made | {"work_pools": {pool["name"]: pool for pool in made["work_pools"]}}


@pytest.mark.slow
def test_a_second_setup_finds_everything(command: Command, bare_server: str) -> None:
    first, second = done(command), done(command)
    for made, what in ((first, "made"), (second, "unchanged")):
        assert made["server"] == bare_server
        assert {name: (pool["runs_at_a_time"], pool["done"]) for name, pool in made["work_pools"].items()} == {
            "cpu": (1, what),
            "gpu": (1, what),
        }
        assert (made["dead_runs"]["dead_after_s"], made["dead_runs"]["done"]) == (540, what)
    code, out, _ = command("setup")
    assert code == 0
    assert "unchanged" in out


@pytest.mark.slow
def test_only_what_is_told_changes(command: Command, bare_server: str) -> None:
    from prefect.client.orchestration import get_client

    done(command, "--cpu", "3")
    changed = done(command, "--gpu", "4", "--dead-after", "600")
    pools = {name: (pool["runs_at_a_time"], pool["done"]) for name, pool in changed["work_pools"].items()}
    assert pools == {"cpu": (3, "unchanged"), "gpu": (4, "changed")}
    with get_client(sync_client=True) as client:
        assert client.read_work_pool("gpu").concurrency_limit == 4
        (automation,) = client.read_automations()
        assert automation.trigger.within.total_seconds() == 600  # type: ignore[union-attr]
        client.pause_automation(automation.id)
    assert done(command)["dead_runs"] == {
        "name": "tailforge: dead runs", "dead_after_s": 600, "enabled": False, "done": "unchanged",
    }  # fmt: skip


@pytest.mark.slow
def test_what_the_server_keeps_is_told(command: Command, bare_server: str) -> None:
    """The tests' server has the defaults: events go, runs stay."""
    assert done(command)["retention"] == {"flow_runs_days": None, "events_days": 7.0}


@pytest.mark.slow
def test_a_pool_of_another_kind_is_named(command: Command, bare_server: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="gpu", type="docker"))
    code, _, err = command("setup")
    assert code == 1
    assert "work pool 'gpu' is there already, of type docker; builds need type process" in err


SILENCE = "closes the connection without an answer"


@contextmanager
def stand_in(answers: dict[str, Any]) -> Iterator[str]:
    """Address of a small HTTP server that gives each path its JSON answer or SILENCE, and 404 elsewhere."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path)
            if found == SILENCE:
                return
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({}, "no Prefect server answers at PREFECT_API_URL"),
        ({"/api/health": True, "/api/admin/version": "3.1.0"}, "is 3.1.0, older than the 3."),
        ({"/api/health": True, "/api/admin/version": "hello"}, "is no Prefect server: its version is 'hello'"),
        ({"/api/health": True}, "refused /api/admin/version (404)"),
        ({"/api/health": SILENCE}, "no Prefect server answers at PREFECT_API_URL"),
        ({"/api/health": True, "/api/admin/version": SILENCE}, "went away: "),
    ],
    ids=["no server", "old", "something else", "without versions", "silent", "silent later"],
)
def test_a_server_that_will_not_do_is_one_clear_error(
    answers: dict[str, Any], message: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with stand_in(answers) as address, temporary_settings({PREFECT_API_URL: address, PREFECT_CLIENT_MAX_RETRIES: 0}):
        monkeypatch.setenv("PREFECT_API_URL", address)
        code, _, err = command("setup")
    assert code == 1
    assert message in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_the_deployment_is_what_prefect_yaml_says(command: Command, bare_server: str, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client

    done(command)
    words = [str(Path(sys.executable).parent / "prefect"), "--no-prompt", "deploy", "--all"]
    environment = os.environ | {"PREFECT_API_URL": bare_server, "TAILFORGE_STORE": str(tmp_path / "store")}
    made = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stdout + made.stderr
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("build-dataset/nightly")
    assert deployment.parameters == {"recipe": "workshop", "store": str(tmp_path / "store"), "overrides": []}
    assert (deployment.work_pool_name, deployment.pull_steps) == ("cpu", [])
    assert deployment.entrypoint == "tailforge.flows.build_dataset.build_dataset"
    (schedule,) = deployment.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 3 * * *", "Europe/Berlin")
    assert deployment.global_concurrency_limit is not None
    assert deployment.global_concurrency_limit.limit == 1
    (told,) = done(command)["deployments"]
    next_at = datetime.fromisoformat(told.pop("next")).astimezone(ZoneInfo("Europe/Berlin"))
    assert told == {"name": "build-dataset/nightly", "work_pool": "cpu", "paused": False}
    assert next_at.strftime("%H:%M") == "03:00"
    assert timedelta() < next_at - datetime.now(UTC) <= timedelta(days=1, hours=1)


def deploy(cron: str, **more: Any) -> None:
    """A deployment of the builds' flow with a schedule, given to the server past our checks."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name("build-dataset")
        schedule = DeploymentScheduleCreate(schedule=CronSchedule(cron=cron, timezone="UTC"))
        client.create_deployment(flow, "planted", schedules=[schedule], **more)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cron", "message"),
    [("0 0 3 * * *", "6 fields"), ("0 2 31 2 *", "it never comes")],
)
def test_a_deployment_whose_schedule_cannot_be_is_named(
    cron: str, message: str, command: Command, bare_server: str
) -> None:
    deploy(cron)
    code, _, err = command("setup")
    assert code == 2
    assert f"deployment build-dataset/planted: cron {cron!r}: {message}" in err
    assert "deploy again" in err


@pytest.mark.slow
@pytest.mark.parametrize(("cron", "paused"), [("0 3 29 2 *", False), ("0 3 * * *", True)], ids=["in years", "paused"])
def test_a_deployment_without_a_run_to_come_is_no_fault(
    cron: str, paused: bool, command: Command, bare_server: str
) -> None:
    """The server makes runs for the next 100 days only, and none of what is paused."""
    deploy(cron, paused=paused)
    (told,) = done(command)["deployments"]
    assert told["paused"] is paused
    if paused:
        assert told["next"] is None
    else:
        assert datetime.fromisoformat(told["next"]) - datetime.now(UTC) > timedelta(days=100)


@pytest.mark.slow
def test_nothing_is_left_of_the_trial(command: Command, bare_server: str) -> None:
    from prefect.client.orchestration import get_client

    done(command)
    with get_client(sync_client=True) as client:
        assert [flow.name for flow in client.read_flows() if "probe" in flow.name] == []
        assert client.read_deployments() == []


def compose_services() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]  # type: ignore[no-any-return]


def test_images_of_compose_get_corrections() -> None:
    """A branch of Python and of PostgreSQL, not one of its corrections, which would keep every hole found later."""
    services, project = compose_services(), tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    images = {service["image"] for service in services.values()}
    assert images == {f"tailforge:{project['version']}", "postgres:16-bookworm"}
    inline = services["server"]["build"]["dockerfile_inline"]
    (python,) = re.findall(r"^FROM python:(\d+\.\d+)-slim-\w+$", inline, re.MULTILINE)
    assert SpecifierSet(project["requires-python"]).contains(f"{python}.1")
    copied = re.findall(r"^COPY (.+) \S+$", inline, re.MULTILINE)
    assert [path for line in copied for path in line.split() if not (ROOT / path).exists()] == []


def test_every_installation_of_a_server_is_held_by_the_constraints() -> None:
    """Those pin a Prefect and an SQLAlchemy with which schedules fire, and no file names another version of these."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert pins["prefect"] == importlib.metadata.version("prefect")
    assert pins["SQLAlchemy"] == importlib.metadata.version("sqlalchemy")
    inline = compose_services()["server"]["build"]["dockerfile_inline"]
    assert "PIP_CONSTRAINT=constraints.txt" in inline
    texts = [(ROOT / name).read_text() for name in ("docs/how-to/nightly.md", "compose.yaml", "prefect.yaml")]
    installs = re.findall(r"pip install [^`\n]*prefect[^`\n]*", texts[0])
    assert installs
    assert [line for line in installs if "--constraint constraints.txt" not in line] == []
    assert [found for text in texts for found in re.findall(r"(?i)(?:prefect|sqlalchemy)(?:==|:)\d\S*", text)] == []


def test_the_image_of_compose_holds_all_that_the_package_is_made_of() -> None:
    inline = compose_services()["server"]["build"]["dockerfile_inline"]
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", inline, re.MULTILINE) for name in line.split()}
    assert copied >= set(SHIPPED)


@pytest.mark.slow
def test_commands_of_compose_are_what_the_programs_know() -> None:
    """Every line that compose.yaml runs, or tells a person to run in it, is known down to its options."""
    text = (ROOT / "compose.yaml").read_text()
    told = re.findall(r"^#   docker compose exec worker (.+?)(?: {2,}#.*)?$", text, re.MULTILINE)
    run = [service["command"] for service in compose_services().values() if "command" in service]
    parts = [
        part.removeprefix("exec ") for line in run for part in line.removeprefix("sh -c ").strip('"').split(" && ")
    ]
    lines = [shlex.split(line) for line in [*told, *parts]]
    assert [words[0] for words in lines if words[0] not in ("prefect", "tailforge")] == []
    for program, *words in lines:
        shown = [str(Path(sys.executable).parent / program), *words, "--help"]
        helped = subprocess.run(shown, capture_output=True, text=True, timeout=300, env=os.environ)
        assert helped.returncode == 0, helped.stderr
        unknown = [
            word for word in words if word.startswith("--") and word != "--no-prompt" and word not in helped.stdout
        ]
        assert unknown == []


def test_settings_of_a_production_server_are_what_prefect_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """compose.yaml and docs/how-to/nightly.md say the same, and Prefect reads it as it is meant."""
    import prefect.settings

    page = (ROOT / "docs" / "how-to" / "nightly.md").read_text()
    documented = dict(re.findall(r"^(PREFECT_\w+)=(\S+)$", page, re.MULTILINE))
    composed = {k: v for service in compose_services().values() for k, v in service.get("environment", {}).items()}
    named = set(re.findall(r"PREFECT_\w+", page)) | {name for name in composed if name.startswith("PREFECT_")}
    assert sorted(name for name in named if not hasattr(prefect.settings, name)) == []
    where = ("PREFECT_HOME", "PREFECT_SERVER_DATABASE_CONNECTION_URL")
    kept = {name: value for name, value in documented.items() if name not in where}
    assert kept.items() <= composed.items()
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    server = prefect.settings.Settings().server
    assert server.services.db_vacuum.enabled_vacuum_types == {"events", "flow_runs", "orphans"}
    assert (server.services.db_vacuum.retention_period.days, server.events.retention_period.days) == (90, 7)
    importlib.import_module(server.concurrency.lease_storage)


def test_prefect_yaml_names_no_path_of_a_machine() -> None:
    text = (ROOT / "prefect.yaml").read_text()
    (deployment,) = yaml.safe_load(text)["deployments"]
    assert not [value for value in deployment["parameters"].values() if str(value).startswith(("/", "~", "."))]
