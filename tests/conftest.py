"""Settings of every test run, made before Prefect is imported: no server of the user, a scratch home, no telemetry."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.chromium import Chromium
from tests.support.s3_server import S3Server

FOREIGN = ("PREFECT_", "TAILFORGE_", "HF_", "CUDA_", "AWS_", "FSSPEC_")
for name in [name for name in os.environ if name.startswith(FOREIGN)]:
    del os.environ[name]
SCRATCH = tempfile.mkdtemp(prefix="tailforge-tests-")
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
if "PYTEST_XDIST_WORKER" in os.environ:  # threads of two busy processes would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ |= {
    "PREFECT_API_URL": "",
    "PREFECT_HOME": f"{SCRATCH}/prefect",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "CROISSANT_CACHE": f"{SCRATCH}/croissant",  # where mlcroissant unpacks tars
    "HF_HUB_OFFLINE": "1",
    "HF_HOME": f"{SCRATCH}/huggingface",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}

# A busy machine is no failure.
settings.register_profile("tailforge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tailforge")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One Chromium for all tests of pages; mark these with `needs_browser`."""
    started = Chromium(tmp_path_factory.mktemp("profile"))
    try:
        yield started
    finally:
        started.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for all tests; they take it through `s3`."""
    with S3Server() as started:
        yield started


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The S3 server without faults, which this process and those that it starts find by the environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.requests.clear()
    yield s3_server
    s3_server.faults = None
