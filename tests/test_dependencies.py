"""Every foreign import is declared for its room, every library is pinned, and an extra that is missing is named."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tailforge.catalog.store import Store
from tailforge.schemas.extras import EXTRAS as EXTRA_OF
from tests.support.declared import EXTRAS, PROJECT, ROOT, declare, installed_for, modules_of
from tests.support.fabricate import make_build, make_recipe, publish_build

NAME = "parts"
ROOMS = ("schemas", "catalog", "tasks", "flows")
# Beside its room's: files that are loaded for an extra alone.
FOR_AN_EXTRA = {
    "catalog/object_store.py": ["s3"],
    "catalog/hub/remote.py": ["hub"],
    "flows/runners/ray_cluster.py": ["ray"],
}
OF_THE_CALLER = {"catalog/reading/batches.py": {"torch"}}  # whoever calls it has it
HIDE = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

sys.meta_path = [Finder if each is PathFinder else each for each in sys.meta_path]
"""


def foreign_imports(path: Path) -> set[str]:
    """Top-level modules that a file imports, here or there, which are neither Python's nor ours."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"tailforge", "tests"}


def declared_modules(extras: list[str]) -> set[str]:
    """Top-level modules of what pyproject.toml names itself: not of what comes along with it."""
    return modules_of(canonicalize_name(each.name) for each in declare(extras))


@pytest.mark.parametrize("room", [*ROOMS, "tests"])
def test_every_foreign_import_is_declared_for_its_room(room: str) -> None:
    extras = {"schemas": [], "catalog": [], "tests": list(EXTRAS)}.get(room, ["build"])
    wrong = []
    for path in sorted((ROOT / room).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        allowed = declared_modules([*extras, *FOR_AN_EXTRA.get(name, [])])
        wrong += [
            f"{name} imports {module}"
            for module in sorted(foreign_imports(path) - allowed - OF_THE_CALLER.get(name, set()))
        ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", EXTRA_OF)
def test_an_extra_brings_the_module_that_errors_say_it_brings(module: str) -> None:
    assert (module if "." not in module else EXTRA_OF[module]) in declared_modules([EXTRA_OF[module]])


def test_every_library_that_is_installed_is_pinned_and_no_other() -> None:
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            assert re.fullmatch(r"==[^*]+", str(pin.specifier)), line
            if pin.marker is None or pin.marker.evaluate():
                pinned[canonicalize_name(pin.name)] = pin
    installed = installed_for(declare(EXTRAS))
    assert [sorted(installed - set(pinned)), sorted(set(pinned) - installed)] == [[], []]


def make_would(*words: str) -> list[str]:
    """The commands by which `make install` would make an environment."""
    command = ["make", "--dry-run", "install", "VENV=no/such/venv", *words]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return shown.splitlines()


def test_torch_alone_comes_from_the_index_that_is_named() -> None:
    index = "https://download.pytorch.org/whl/cpu"
    plain, chosen = make_would(), make_would(f"TORCH_INDEX={index}")
    (before,) = (line.split() for line in plain if line not in chosen)
    (after,) = (line.split() for line in chosen if line not in plain)
    assert after == [*before[:-1], "--extra-index-url", index, "torch"]
    assert before[-1] == "torch"


def test_make_takes_the_pythons_that_the_package_takes() -> None:
    low, high = (int(found) for found in re.findall(r"\(3, (\d+)\)", " ".join(make_would())))
    assert str(PROJECT["requires-python"]) == f">=3.{low},<3.{high}"
    assert sys.version_info[:2] in [(3, minor) for minor in range(low, high)]


def test_make_installs_every_extra() -> None:
    (named,) = re.findall(r"'\.\[(.*)\]'", " ".join(make_would()))
    assert sorted(named.split(",")) == sorted(EXTRAS)


def run_without(extras: list[str], words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """`tailforge` in a process that finds the package's dependencies and those of `extras`, and nothing else."""
    everything = modules_of(installed_for(declare(EXTRAS)))
    hidden = everything - modules_of(installed_for(declare(extras)))
    run = f"from tailforge.flows.cli.main import main\nsys.argv[1:] = {words!r}\nmain()"
    program = f"HIDDEN = {sorted(hidden)!r}\n{HIDE}\n{run}"
    # What this process has set to quiet the libraries is no user's setting.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_VERBOSITY")}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that holds a version."""
    folder = tmp_path_factory.mktemp("place")
    store = Store.open(str(folder / "store"), create=True)
    publish_build(make_build(store, make_recipe(), {"gear": 5}), {"report/index.html": b"<html>"})
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["show", NAME],
        ["verify", NAME],
        ["report", NAME],
        ["diff", f"{NAME}@1.0.0", NAME],
        *(
            ["export", NAME, "--format", each, "--out", each]
            for each in ("coco", "panoptic", "yolo", "voc", "huggingface")
        ),
    ],
    ids=" ".join,
)
def test_a_consumer_runs(words: list[str], place: Path) -> None:
    ran = run_without([], [*words, "--store", "store"], place)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout


def test_a_consumer_pushes_with_one_extra(place: Path) -> None:
    push = ["push", NAME, "owner/parts", "--dry-run", "--store", "store"]
    ran = run_without(["hub"], push, place)
    assert ran.returncode == 0, ran.stderr
    for words in (push, ["pull", "owner/parts", "--store", "other"]):
        ran = run_without([], words, place)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr.endswith("install the extra: pip install 'tailforge[hub]'\n")


def test_a_consumer_is_told_what_the_machine_lacks(place: Path) -> None:
    ran = run_without([], ["doctor", "--json", "--store", "store"], place)
    assert (ran.returncode, ran.stderr) == (1, "")
    findings = {each["topic"]: each for each in json.loads(ran.stdout)["findings"]}
    assert (findings["extra build"]["state"], findings["extra s3"]["state"]) == ("broken", "limited")
    assert findings["torch"]["found"] == "torch is not installed"
    assert findings["torch"]["mend"] == "install the extra: pip install 'tailforge[build]'"
    assert findings["store"]["found"].endswith("holds 1 dataset")


@pytest.mark.parametrize(
    "words",
    [
        ["build", "workshop"],
        ["plan", "workshop"],
        ["train", "train-workshop"],
        ["pretrain", NAME, "--use", "masked"],
        ["regenerate", "0123456789abcdef", "--dataset", NAME],
        ["serve", "workshop", "--cron", "0 3 * * *"],
        ["setup"],
    ],
    ids=lambda words: words[0],
)
def test_a_consumer_is_told_what_a_command_needs(words: list[str], place: Path) -> None:
    ran = run_without([], words, place)
    assert ran.returncode == 2
    assert re.fullmatch(
        r"error: \w+ is not installed; install the extra: pip install 'tailforge\[build\]'\n", ran.stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["pretrain", NAME, "--use", "masked"], "augment"),
        (["distill", NAME, "--test", "photographs", "--teacher", "catalog:workshop"], "augment"),
        (["train", "teacher-workshop"], "augment"),
        (["plan", "workshop", "--set", "augmentation={transforms: [{name: D4}]}"], "augment"),
        (["train", "adapt-workshop"], "tensorboard"),
        (["list", "--store", "s3://bucket/forge"], "s3"),
        (["build", "workshop", "--runner", "ray"], "ray"),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else given,
)
def test_a_missing_extra_is_named_before_any_work(words: list[str], extra: str, tmp_path: Path) -> None:
    ran = run_without(["build"], words, tmp_path)
    assert ran.returncode == 2, ran.stderr
    told = [line for line in ran.stderr.splitlines() if not line.startswith("at work on")]  # a slow import is told
    assert len(told) == 1
    assert told[0].startswith("error: ")
    assert ran.stderr.endswith(f"install the extra: pip install 'tailforge[{extra}]'\n")
    assert {each.name for each in tmp_path.iterdir()} <= {"store"}  # made to see that it can be written
