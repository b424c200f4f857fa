"""`tailforge serve` on a real Prefect server: runs build, nothing unchanged is published, a stop keeps the schedule."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.registry import list_versions
from tailforge.catalog.store import Store
from tests.flows.conftest import Command
from tests.support.prefect_servers import wait_for

pytestmark = pytest.mark.flow


def find_deployment(client: Any) -> Any:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name("build-dataset/nightly-tiny")
    except ObjectNotFound:
        return None


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_schedule_builds_and_outlives_its_process(tiny_recipe: Path, tmp_path: Path, at_lasting_server: str) -> None:
    from prefect.client.orchestration import get_client

    words = ["serve", str(tiny_recipe), "--store", str(tmp_path / "store"), "--cron", "0 3 * * *",
             "--timezone", "Europe/Berlin"]  # fmt: skip
    environment = os.environ | {"PREFECT_API_URL": at_lasting_server, "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    told = tmp_path / "told"
    with told.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "tailforge", *words], env=environment, stdout=out, stderr=out)
    try:
        with get_client(sync_client=True) as client:
            deployment = wait_for("the deployment", lambda: find_deployment(client))
            (schedule,) = deployment.schedules
            assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 3 * * *", "Europe/Berlin")

            def run() -> str:
                made = client.create_flow_run_from_deployment(deployment.id)

                def ended() -> Any:
                    state = client.read_flow_run(made.id).state
                    return state if state is not None and state.is_final() else None

                return str(wait_for("the run's end", ended).type.value)

            assert run() == "COMPLETED"
            store = Store.open(str(tmp_path / "store"))
            assert list_versions(store, "tiny") == ["1.0.0"]
            assert run() == "COMPLETED"
            assert list_versions(store, "tiny") == ["1.0.0"]
            (tiny_recipe.parent / "generator").rename(tmp_path / "away")
            assert run() == "FAILED"
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
            (schedule,) = find_deployment(client).schedules
            assert schedule.active
        text = told.read_text()
        report = tmp_path / "store" / "datasets" / "tiny" / "1.0.0" / "report" / "index.html"
        assert "published: tiny 1.0.0, 15 images" in text
        assert "unchanged: tiny 1.0.0, 15 images" in text
        assert text.count(f"report: {report}") == 2
        assert "catalog model or a hub id" in text  # of the run that failed
    finally:
        process.kill()
        process.wait()


def test_what_would_be_served_is_told(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    code, out, err = command("serve", tiny_recipe, "--store", tmp_path / "store", "--check", "--json")
    assert code == 0, err
    assert json.loads(out)["parameters"] == {
        "recipe": str(tiny_recipe),
        "store": str(tmp_path / "store"),
        "overrides": [],
    }


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--cron", "0 25 * * *"), 2, "--cron '0 25 * * *': Invalid cron string"),
        (("--cron", "0 0 3 * * *"), 2, "--cron '0 0 3 * * *': 6 fields"),
        (("--cron", "0 2 31 2 *"), 2, "--cron '0 2 31 2 *': it never comes"),
        (("--timezone", "Mars/Base"), 2, "--timezone 'Mars/Base': Invalid timezone"),
        (("--set", "concepts.hook.requested=3"), 2, "hook"),
        ((), 1, "this command needs a permanent Prefect server"),
    ],
)
def test_what_cannot_be_served_is_one_clear_error(
    words: tuple[str, ...], code: int, message: str, command: Command, tiny_recipe: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("PREFECT_API_URL", "")
    found, _, err = command("serve", tiny_recipe, "--store", tmp_path / "store", *words)
    assert found == code
    assert message in err


def test_a_server_that_does_not_answer_is_named(
    command: Command, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    code, _, err = command("serve", tiny_recipe, "--store", tmp_path / "store")
    assert code == 1
    assert "no Prefect server answers at PREFECT_API_URL http://127.0.0.1:9/api" in err
