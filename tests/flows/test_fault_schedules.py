"""Builds that meet drawn faults end as an undisturbed build does. The benchmark of operations runs fifty schedules."""

from pathlib import Path

import pytest

from tests.fault_launcher import Launcher
from tests.fault_runs import prepare, run_schedule
from tests.fault_schedules import draw_schedules

pytestmark = [pytest.mark.slow, pytest.mark.flow, pytest.mark.timeout(900)]

SCHEDULES = 5
SEED = 3


def test_faults_lose_double_and_half_publish_nothing(prefect_server: str, tmp_path: Path) -> None:
    launcher = Launcher({"PREFECT_API_URL": prefect_server})
    reference = prepare(tmp_path, launcher)
    outcomes = [run_schedule(schedule, reference, launcher, tmp_path) for schedule in draw_schedules(SCHEDULES, SEED)]
    problems = [f"{outcome.schedule}: {problem}" for outcome in outcomes for problem in outcome.problems]
    assert not problems, "\n".join(problems)
    assert sum(len(outcome.struck) for outcome in outcomes) >= SCHEDULES
