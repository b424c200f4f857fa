"""Settings of every test run, made before Prefect is imported: no server of the user, a scratch home, no telemetry."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.chromium import Chromium

for name in [name for name in os.environ if name.startswith(("PREFECT_", "TAILFORGE_", "HF_", "CUDA_"))]:
    del os.environ[name]
SCRATCH = tempfile.mkdtemp(prefix="tailforge-tests-")
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
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
