"""Builds that meet drawn faults end as an undisturbed build does. The benchmark of operations runs fifty schedules."""

from pathlib import Path

import pytest

from tailforge.flows.runners.device_leases import LEASES
from tests.support.fault_launcher import Launcher
from tests.support.fault_object_store import prepare_object_store, run_on_object_store
from tests.support.fault_runs import Outcome, prepare, run_schedule
from tests.support.fault_schedules import OBJECT_STORE_KINDS, draw_schedules
from tests.support.s3_server import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.flow, pytest.mark.timeout(900)]

SEED = 3


@pytest.fixture
def launcher(prefect_server: str, s3: S3Server, tmp_path: Path) -> Launcher:
    own = {"PREFECT_API_URL": prefect_server, LEASES: str(tmp_path / "devices")}
    return Launcher({**own, **s3.environment})


def require_no_problems(outcomes: list[Outcome]) -> None:
    problems = [f"{outcome.schedule}: {problem}" for outcome in outcomes for problem in outcome.problems]
    assert not problems, "\n".join(problems)
    assert sum(len(outcome.struck) for outcome in outcomes) >= len(outcomes)


def test_faults_lose_double_and_half_publish_nothing(launcher: Launcher, s3: S3Server, tmp_path: Path) -> None:
    reference = prepare(tmp_path, launcher)
    require_no_problems([run_schedule(each, reference, launcher, tmp_path) for each in draw_schedules(4, SEED)])
    reference = prepare_object_store(reference, launcher, s3, tmp_path)
    schedules = draw_schedules(2, SEED, OBJECT_STORE_KINDS)
    require_no_problems([run_on_object_store(each, reference, launcher, tmp_path, s3) for each in schedules])
