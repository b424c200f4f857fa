"""One temporary Prefect server for all tests that start flows, and one that stays, for those of schedules.

The temporary one makes no runs of schedules.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tailforge.flows.build.choose import remember_build
from tests.conftest import SCRATCH
from tests.support.prefect_servers import Server, run_server
from tests.support.tiny_recipes import write_recipe

Command = Callable[..., tuple[int, str, str]]


def build(command: Command, recipe: Path, store: Path | str, *words: str) -> dict[str, Any]:
    """Return what `tailforge build --json` prints of a build that succeeds."""
    code, out, err = command("build", recipe, "--store", store, "--json", *words)
    assert code == 0, err
    return json.loads(out)  # type: ignore[no-any-return]


_built: dict[str, tuple[Path, dict[str, Any]]] = {}  # stores with one build, and what their builds printed


def start_from_build(command: Command, recipe: Path, store: Path) -> dict[str, Any]:
    """Give a test a new store with one build of the recipe; return what that build printed.

    The build itself is made once per process and copied: use it where the test is about what comes after.
    """
    key = _digest_folder(recipe.parent)
    if key not in _built:
        kept = Path(tempfile.mkdtemp(prefix="built-", dir=SCRATCH)) / "store"
        _built[key] = kept, build(command, recipe, kept)
    kept, made = _built[key]
    shutil.copytree(kept, store)
    remember_build(str(store), made["name"], str(recipe), ())
    return made | {name: made[name].replace(str(kept), str(store)) for name in ("uri", "report")}


def _digest_folder(folder: Path) -> str:
    """Return a digest of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    parts = [(str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def rows_of(made: dict[str, Any], table: str = "manifest") -> list[dict[str, Any]]:
    """Rows of a table of the version that a build made."""
    return pq.read_table(Path(made["uri"]) / f"{table}.parquet").to_pylist()  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """Address of a Prefect API that lives as long as the test run; subprocesses may use it too."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        address = PREFECT_API_URL.value()
        assert address
        os.environ["PREFECT_API_URL"] = address
        yield address
        os.environ["PREFECT_API_URL"] = ""


@pytest.fixture(scope="session")
def lasting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on SQLite as `prefect server start` makes it, whose scheduler makes runs."""
    folder = tmp_path_factory.mktemp("lasting")
    with run_server(f"sqlite+aiosqlite:///{folder}/prefect.db", folder) as started:
        yield started


@pytest.fixture
def at_lasting_server(lasting_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of the server that stays, for commands and clients in this process; it starts without deployments."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("PREFECT_API_URL", lasting_server.api)
    with temporary_settings({PREFECT_API_URL: lasting_server.api}):
        with get_client(sync_client=True) as client:
            for deployment in client.read_deployments():  # of an earlier test
                client.delete_deployment(deployment.id)
        yield lasting_server.api


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `tailforge ...` in this process; returns exit code, standard output and standard error."""
    from tailforge.flows.cli.commands import main

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tailforge", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture(scope="session")
def tiny_generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny random Stable Diffusion; copy it before changing it."""
    from tests.support.tiny_generators import save_sd

    folder = tmp_path_factory.mktemp("models") / "generator"
    save_sd(folder)
    return folder


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_generator: Path) -> Path:
    """Path of the tiny recipe in a folder of its own, with its own copy of the generator beside it."""
    folder = tmp_path / "recipe"
    shutil.copytree(tiny_generator, folder / "generator")
    return write_recipe(folder)
