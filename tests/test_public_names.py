"""What users import: the public names, beside modules of their own that are called as our folders are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tailforge
from tests.support.declared import PROJECT
from tests.support.foreign_project import write_project
from tests.support.repository import ROOT

PUBLIC = [
    "ImageMapDataset",
    "MapDataset",
    "MixedDataset",
    "ShardedDataset",
    "TailforgeError",
    "__version__",
    "collate",
    "decode_sample",
    "list_datasets",
    "list_versions",
    "mix_datasets",
    "open_dataset",
    "open_dataset_map",
    "open_images_map",
    "open_shards",
]


def test_these_names_are_public_and_no_others() -> None:
    assert sorted(tailforge.__all__) == PUBLIC
    assert dir(tailforge) == PUBLIC
    assert all(getattr(tailforge, name) for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'open_datasets'"):
        tailforge.open_datasets  # noqa: B018


def test_public_names_are_documented_where_they_are_defined() -> None:
    documented = {name: getattr(tailforge, name).__doc__ for name in PUBLIC if name != "__version__"}
    assert [name for name, text in documented.items() if not text] == []


def test_the_version_is_that_of_the_distribution() -> None:
    assert tailforge.__version__ == PROJECT["version"]


def test_importing_the_package_imports_nothing_else() -> None:
    program = "import sys, tailforge; print([name for name in sys.modules if name.startswith('tailforge.')])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        [sys.executable, "-m", "tailforge", "--version"],
        [str(Path(sys.executable).parent / "tailforge"), "list", "--store", "nowhere"],
    ],
    ids=["pytest", "python -m", "command"],
)
def test_a_project_may_call_its_modules_as_our_folders(words: list[str], tmp_path: Path) -> None:
    """From the editable install of this environment; tests/test_wheel.py does the same from the wheel."""
    project = write_project(tmp_path / "project")
    ran = subprocess.run(words, cwd=project, env=_environment(), capture_output=True, text=True, timeout=120)
    assert ran.returncode == (2 if "list" in words else 0), ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_stack_trace_leads_to_the_real_file(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    ran = subprocess.run([sys.executable, "trace.py"], cwd=project, env=_environment(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    place = Path(ran.stdout.strip())
    assert place.resolve().is_relative_to(ROOT / "catalog")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
