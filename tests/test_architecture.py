"""The house holds: imports run one way, mathematics knows no orchestration, the checkers find nothing."""

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tailforge.tasks.stages.on_demand import ON_DEMAND
from tailforge.tasks.stages.registry import list_stages
from tests.support.repository import ROOT

ROOMS = ("schemas", "catalog", "tasks", "flows")
# What each room may import beside itself, lower rooms first.
WORDS = {"schemas"}
MEMORY = {*WORDS, "catalog.pictures", "catalog"}
MATHEMATICS = {*MEMORY, "tasks.methods"}
CONTRACT = {*MATHEMATICS, "tasks.artifacts"}
WORK = {*CONTRACT, "tasks.models", "tasks.images", "tasks.report"}
BASE = {*WORK, "tasks.engines", "tasks.stages", "tasks.publish", "tasks.training", "flows.terminal"}
MAY_IMPORT = {
    "schemas": set(),
    "catalog.pictures": WORDS,
    "catalog": MEMORY,
    "tasks.methods": {*WORDS, "catalog.pictures"},
    "tasks.artifacts": MATHEMATICS,
    "tasks.models": MATHEMATICS,
    "tasks.images": MATHEMATICS,
    "tasks.report": {*WORDS, "catalog.pictures", "tasks.methods"},
    "tasks.engines": {*CONTRACT, "tasks.models", "tasks.images"},
    "tasks.stages": {*WORK, "tasks.engines", "tasks.training"},
    "tasks.publish": {*WORK, "tasks.engines", "tasks.stages"},
    "tasks.training": WORK,
    "flows.terminal": {*WORK, "tasks.training", "flows.build"},
    "flows.runners": {*BASE, "flows.server", "flows.build"},
    "flows.server": BASE,
    "flows.estimate": {*BASE, "flows.build"},
    "flows": {*BASE, "flows.build", "flows.estimate", "flows.runners", "flows.server"},
    "flows.build": {*BASE, "flows", "flows.estimate", "flows.runners", "flows.server"},
    "flows.samples": {*BASE, "flows", "flows.build"},
    "flows.training": {*BASE, "flows.build", "flows.samples", "flows.server"},
    "flows.photographs": BASE,
    "flows.doctor": {*BASE, "flows.build", "flows.server"},
    "flows.cli": {
        *BASE,
        "flows.build",
        "flows.doctor",
        "flows.estimate",
        "flows.photographs",
        "flows.samples",
        "flows.server",
        "flows.training",
    },
}
NO_PREFECT = (
    "schemas",
    "catalog",
    "tasks.methods",
    "tasks.models",
    "tasks.artifacts",
    "tasks.images",
    "tasks.report",
    "tasks.engines",
)
PREFECT_OF_STAGES = {"tasks.stages.run", "tasks.stages.retry_rule"}
HEAVY = {"torch", "diffusers", "transformers", "prefect"}
SMALLEST_FOLDER = 4


def sources() -> dict[str, Path]:
    """Modules by their dotted names below `tailforge`."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(path: Path, *, late: bool = True) -> Iterator[str]:
    """Dotted names that a file imports, ours without `tailforge.`; without `late` only when the file is imported."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if late else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("tailforge.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}".removeprefix("tailforge.") for alias in node.names)


def longest(name: str, names: object) -> str | None:
    """The longest of `names` that is `name` or contains it."""
    return max((each for each in names if f"{name}.".startswith(f"{each}.")), key=len, default=None)  # type: ignore[attr-defined]


def import_heavy(modules: list[str]) -> str:
    """The heavy libraries that a new process imports with these modules, as a list in text."""
    program = f"import sys\nfor m in {modules!r}: __import__(m)\nprint(sorted({HEAVY!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def test_imports_run_one_way() -> None:
    wrong = []
    for module, path in sources().items():
        here = longest(module, MAY_IMPORT)
        if here is None:
            continue
        for name in imported(path):
            room = longest(name, MAY_IMPORT)
            if room and room != here and room not in MAY_IMPORT[here]:
                wrong.append(f"{module} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_import_runs_in_a_circle() -> None:
    modules = sources()
    graph = {
        module: {found for name in imported(path, late=False) if (found := longest(name, modules)) and found != module}
        for module, path in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports run in a circle: {error.args[1]}")


def test_our_own_modules_are_imported_by_the_name_that_users_import() -> None:
    """In a project with a `tasks.py` of its own, `import tasks` is that."""
    python = [*(ROOT / "tests").rglob("*.py"), *(path for path in sources().values())]
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in python
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name.partition(".")[0] in ROOMS
    ]
    assert not wrong, "\n".join(wrong)


def test_a_folder_holds_several_files_of_one_kind() -> None:
    folders = {path.parent for module, path in sources().items() if module.count(".") > 1}
    counts = {
        folder.relative_to(ROOT): len([path for path in folder.glob("*.py") if path.name != "__init__.py"])
        for folder in folders
        if not list(folder.glob("*/__init__.py"))  # a room of rooms
    }
    assert {str(folder): count for folder, count in counts.items() if 0 < count < SMALLEST_FOLDER} == {}


def test_nobody_asks_which_engine_a_recipe_names() -> None:
    """Callers ask `engine_of(recipe)`, or the engine's settings; tasks/engines alone tells engines apart."""
    wrong = [
        f"{module}: {ast.unparse(node)}"
        for module, path in sources().items()
        if not module.startswith("tasks.engines")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance" and "engine" in ast.unparse(node)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_registry_is_the_only_list_of_stages() -> None:
    """Elsewhere a stage is named by its object, so that a stage is added by one line."""
    names = {stage.name for stage in (*list_stages(), *ON_DEMAND)}

    def named(node: ast.AST) -> int:
        return sum(isinstance(each, ast.Constant) and each.value in names for each in ast.iter_child_nodes(node))

    wrong = [
        f"{module}:{node.lineno}: {ast.unparse(node)}"
        for module, path in sources().items()
        if module.startswith(("tasks", "flows")) and not module.startswith("tasks.stages")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict) and named(node) > 1)
        or (isinstance(node, ast.Compare) and "stage" in ast.unparse(node) and named(node))
    ]
    assert not wrong, "\n".join(wrong)


def test_a_stage_has_one_name() -> None:
    """The name of its module is its table's folder in the store and the word after --stage."""
    for stage in (*list_stages(), *ON_DEMAND):
        assert importlib.import_module(f"tailforge.tasks.stages.{stage.name}").STAGE is stage


def test_what_is_imported_when_called_is_there() -> None:
    """`when_called` names a module and a function by text, which no checker reads."""
    named = [
        [ast.literal_eval(argument) for argument in node.args]
        for path in sources().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "when_called"
    ]
    assert named
    for module, function in named:
        assert callable(getattr(importlib.import_module(f"tailforge.{module}"), function))


def test_stages_and_engines_are_known_without_the_libraries_of_their_work() -> None:
    """Modules in a folder `work` import them, and are imported when work begins."""
    registries = ["tailforge.tasks.stages.registry", "tailforge.tasks.engines.registry"]
    assert import_heavy(registries) == "[]"


def test_one_walk_builds_plans_and_looks() -> None:
    parts = {"run_rounds", "augment_all", "write_all"}
    callers = {
        module
        for module, path in sources().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in parts
    }
    assert callers == {"flows.build.walk"}


def test_pictures_are_decoded_in_one_place() -> None:
    """Every decoder of Pillow that nobody asked for is a way in."""
    places = {
        module
        for module, path in sources().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open")
    }
    assert places == {"catalog.pictures"}


def test_denoisers_are_trained_by_one_loop() -> None:
    """A training is a sampler and a plan. Only the loop and its measurement of the error add noise to clean latents."""
    noise = "tasks.methods.generator_training.noise"
    drawing = {module for module, path in sources().items() if f"{noise}.draw_noise" in imported(path)}
    assert drawing == {"tasks.methods.generator_training.denoising", "tasks.methods.generator_training.train"}


def test_trainings_run_in_one_loop() -> None:
    """The loop alone resumes a learner and calls its observer, which shows progress and saves checkpoints."""
    loops = {
        module
        for module, path in sources().items()
        if module.startswith("tasks.methods")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node).startswith("observe(learner,")
    }
    assert loops == {"tasks.methods.training_loop"}


def test_prefect_stays_in_tasks_and_flows() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in sources().items()
        if module.startswith(NO_PREFECT) or (module.startswith("tasks.stages") and module not in PREFECT_OF_STAGES)
        for name in imported(path)
        if name.split(".")[0] == "prefect"
    ]
    assert not wrong, "\n".join(wrong)


def test_methods_know_neither_pages_nor_pipelines() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in sources().items()
        if module.startswith("tasks.methods")
        for name in imported(path)
        if name.split(".")[0] == "jinja2"
        or name == "diffusers"
        or (name.startswith("diffusers.") and "ipeline" in name)
    ]
    assert not wrong, "\n".join(wrong)


def test_a_consumer_needs_neither_torch_nor_prefect() -> None:
    modules = [f"tailforge.{module}" for module in sources() if module.startswith(("schemas", "catalog"))]
    assert import_heavy(modules) == "[]"


def test_tasks_package_is_empty() -> None:
    assert (ROOT / "tasks" / "__init__.py").read_text() == ""


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_come_from_this_repository(room: str) -> None:
    file = importlib.import_module(f"tailforge.{room}").__file__
    assert file is not None
    assert os.path.samefile(file, ROOT / room / "__init__.py")


def test_tests_hold_no_packages() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=["ruff", "format", "mypy"]
)
def test_checkers_find_nothing(command: list[str]) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_nothing_else_lies_at_the_top() -> None:
    """Every tracked file is in a folder of the layout, so that no trial leaves its output."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no clone of git, which lists the tracked files")
    files = {"CHANGELOG.md", "LICENSE", "Makefile", "README.md", ".gitignore"}
    files |= {"compose.yaml", "constraints.txt", "prefect.yaml", "pyproject.toml"}
    assert {line.partition("/")[0] for line in listed.stdout.splitlines()} <= files | {
        *ROOMS,
        "src",
        "tests",
        "docs",
        ".ci",
    }
