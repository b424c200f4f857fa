"""The wheel as others install it: from its metadata alone, without our pins, into environments that hold nothing else.

What pyproject.toml leaves open is here as new as the package index has it. torch alone is asked for by the version of
our pins: its newest release may be one for CUDA, which brings gigabytes. `TORCH_INDEX` is heard as by `make install`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tailforge.catalog.store import Store
from tests.support.declared import ROOT
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.foreign_project import write_project
from tests.support.prefect_servers import run_server
from tests.support.repository import SHIPPED

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(3600)]

READ = """
from tailforge import open_dataset
opened = open_dataset("store/datasets/parts", split="train")
print(len([sample["image"].load() for sample in opened]), sorted(opened.classes))
"""


class Environment:
    """A virtual environment of its own in a folder, and a home without settings of anyone's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.programs = folder, folder / "venv" / "bin"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PYTHON"))}
        self.variables = kept | {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}
        self.variables.pop("PIP_CONSTRAINT", None)
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        self.install("--upgrade", "pip")

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A program of the environment, run in its folder."""
        command = [str(self.programs / program), *words]
        return subprocess.run(command, cwd=self.folder, env=self.variables, capture_output=True, text=True)

    def done(self, program: str, *words: str) -> str:
        """What a program prints that succeeds."""
        ran = self.run(program, *words)
        assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-5000:]
        return ran.stdout

    def install(self, *wanted: str) -> None:
        self.done("python", "-m", "pip", "install", "--quiet", *wanted)

    def names(self) -> set[str]:
        """Names of what is installed."""
        listed = json.loads(self.done("python", "-m", "pip", "list", "--format", "json"))
        return {each["name"].lower() for each in listed}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what the repository holds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SHIPPED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, source / name, **({"symlinks": True} if name == "src" else {}))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(source)]
    subprocess.run(command, check=True)
    (made,) = out.iterdir()
    return made


def pinned_torch() -> str:
    (found,) = re.findall(r"^torch==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return str(found)


def test_the_smallest_build_runs_with_whatever_is_newest(wheel: Path, tmp_path: Path) -> None:
    fresh = Environment(tmp_path)
    index = os.environ.get("TORCH_INDEX")
    fresh.install(*(["--extra-index-url", index] if index else []), pinned_torch())
    fresh.install(f"{wheel}[build]", pinned_torch())
    fresh.done("python", "-m", "pip", "check")
    assert fresh.names().isdisjoint({"albumentations", "albumentationsx", "tensorboard", "ray", "s3fs", "pytest"})
    few = ["--set", "concepts=[{name: gear, requested: 1}, {name: bolt, requested: 1}]", "--set", "engine.batch_size=2"]
    made = json.loads(fresh.done("tailforge", "build", "workshop", "--store", "store", *few, "--json"))
    assert made["samples"] == 2
    fresh.done("tailforge", "verify", "workshop", "--store", "store")
    with run_server(f"sqlite+aiosqlite:///{tmp_path}/prefect.db", tmp_path, fresh.programs, PYTHONPATH="") as server:
        told = json.loads(server.run(str(fresh.programs / "tailforge"), "setup", "--json"))
    assert told["deployments"] == []  # it ends only when it has seen the server's scheduler make runs


def test_the_wheel_holds_one_package_its_data_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"tailforge"}
    assert {name.split("/")[1] for name in names if name.startswith("tailforge/")} >= {"__init__.py", "py.typed"}
    assert not [name for name in names if "test" in Path(name).name and name.endswith(".py")]
    assert "tailforge/tasks/report/templates/report.html.j2" in names
    assert "tailforge/catalog/recipes/workshop.yaml" in names
    assert any(name.startswith("tailforge/catalog/models/workshop/unet/") for name in names)
    assert "Classifier: Operating System :: POSIX" in metadata


def test_a_consumer_needs_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    fresh = Environment(tmp_path)
    fresh.install(str(wheel))
    assert fresh.names().isdisjoint({"torch", "prefect", "transformers", "diffusers", "httpx"})
    store = Store.open(str(tmp_path / "store"), create=True)
    build = make_build(store, make_recipe(), {"gear": 9, "hook": 4})
    samples = publish_build(build, {"report/index.html": b"<html>"}).counts.samples
    (listed,) = json.loads(fresh.done("tailforge", "list", "--store", "store", "--json"))
    assert (listed["dataset"], listed["samples"]) == ("parts", samples)
    assert "parts" in fresh.done("tailforge", "show", "parts", "--store", "store")
    assert f"{samples} samples" in fresh.done("tailforge", "verify", "parts", "--store", "store")
    fresh.done("tailforge", "export", "parts", "--store", "store", "--format", "coco", "--out", "coco")
    count, classes = fresh.done("python", "-c", READ).split(" ", 1)
    assert 0 < int(count) <= samples
    assert classes.strip() == "['gear', 'hook', 'ring']"
    write_project(tmp_path / "project")
    for name in ("tasks.py", "flows", "catalog", "schemas", "trace.py"):
        (tmp_path / "project" / name).rename(tmp_path / name)
    found = fresh.done(
        "python", "-c", "import tasks, flows, tailforge; print(tasks.MINE, flows.MINE, tailforge.__file__)"
    )
    assert found.startswith("1 2 ")
    assert "site-packages/tailforge/catalog/" in fresh.done("python", "trace.py")
    assert "parts" in fresh.done("python", "-m", "tailforge", "list", "--store", "store")
    refused = fresh.run("tailforge", "build", "workshop", "--store", "store")
    assert refused.returncode == 2
    assert refused.stderr.endswith("install the extra: pip install 'tailforge[build]'\n")
