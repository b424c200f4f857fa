"""The code can be read: paragraphs under comments, short functions, short files, docstrings with shapes."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

import pytest

from tests.support.repository import ROOT

ROOMS = ("schemas", "catalog", "tasks", "flows")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

LONG_FUNCTION = 15  # lines from which a function needs a paragraph
LONGEST_P90 = 20
LONGEST_FILE = 400
MEDIAN_FILE = (80, 150)

FEWEST_COMMENTS = 8  # lines per 100 lines of code in numerical folders
LARGEST_DENSE = 0.2  # share of functions of 15 or more lines without a blank line or comment

# Folders of numerical code: the methods' root with all folders, and each folder.
METHODS = [f"tasks/methods/{path.parent.name}" for path in sorted((ROOT / "tasks/methods").glob("*/__init__.py"))]
NUMERICAL = ("tasks/methods", *METHODS)
# Folders without numerical code that hold the other limits.
PROSE = (
    "catalog",
    "flows/build",
    "flows/cli",
    "flows/doctor",
    "flows/estimate",
    "flows/runners",
    "flows/samples",
    "flows/server",
    "flows/photographs",
    "flows/terminal",
    "flows/training",
    "schemas",
    "tasks/artifacts",
    "tasks/engines",
    "tasks/images",
    "tasks/models",
    "tasks/publish",
    "tasks/report",
    "tasks/stages",
    "tasks/training",
)
# Rooms with short functions.
SHORT = ("schemas", "catalog", "tasks", "flows")
SHAPE = re.compile(r"\[[^\]]*\]|\bshape|\bscalar\b")


@cache
def parse(path: Path) -> tuple[str, ast.Module]:
    """Return a file's text and its syntax tree."""
    text = path.read_text()
    return text, ast.parse(text)


def files_of(folder: str) -> list[Path]:
    """Return the Python files below a folder, without those that hold no code."""
    return [path for path in sorted((ROOT / folder).rglob("*.py")) if count_code(path)]


def functions_of(path: Path) -> list[Function]:
    """Return all functions of a file, nested ones and methods included."""
    return [node for node in ast.walk(parse(path)[1]) if isinstance(node, Function)]


def comment_lines(path: Path) -> set[int]:
    """Return the numbers of the lines that hold a comment and nothing else."""
    tokens = tokenize.generate_tokens(io.StringIO(parse(path)[0]).readline)
    return {t.start[0] for t in tokens if t.type == tokenize.COMMENT and not t.line[: t.start[1]].strip()}


def docstring_lines(path: Path) -> set[int]:
    """Return the numbers of the lines that belong to docstrings."""
    nodes = [node for node in ast.walk(parse(path)[1]) if isinstance(node, Documented) and ast.get_docstring(node)]
    return {line for node in nodes for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)}


@cache
def count_code(path: Path) -> int:
    """Return the number of lines that are neither blank nor a comment nor part of a docstring."""
    left_out = comment_lines(path) | docstring_lines(path)
    lines = parse(path)[0].splitlines()
    return sum(1 for number, line in enumerate(lines, 1) if line.strip() and number not in left_out)


def length_of(function: Function) -> int:
    """Return a function's lines, its docstring left out."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    return lines - ((function.body[0].end_lineno or 0) - function.body[0].lineno + 1)


def comments_per_hundred(folder: str) -> float:
    """Return the comment lines per 100 lines of code in a folder."""
    paths = files_of(folder)
    return 100 * sum(len(comment_lines(path)) for path in paths) / sum(map(count_code, paths))


def is_dense(function: Function, path: Path) -> bool:
    """Return whether a function's body holds neither a blank line nor a comment, its docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    if not body:
        return False
    lines, comments = parse(path)[0].splitlines(), comment_lines(path)
    # A comment above the first statement belongs to the body as well.
    first = body[0].lineno
    while first - 1 in comments:
        first -= 1
    inside = range(first, (function.end_lineno or 0) + 1)
    return not any(number in comments or not lines[number - 1].strip() for number in inside)


def share_of_dense(folder: str) -> float:
    """Return the share of functions of 15 or more lines that are dense."""
    found = [
        is_dense(each, path)
        for path in files_of(folder)
        for each in functions_of(path)
        if length_of(each) >= LONG_FUNCTION
    ]
    return sum(found) / max(1, len(found))


def p90_of_lengths(folder: str) -> int:
    """Return the length that 90 % of a folder's functions do not exceed."""
    lengths = sorted(length_of(each) for path in files_of(folder) for each in functions_of(path))
    return lengths[int(0.9 * (len(lengths) - 1))]


def public_nodes(path: Path) -> Iterator[ast.ClassDef | Function]:
    """Yield a module's public classes and functions, and the public methods of its public classes."""
    for node in parse(path)[1].body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node
            for member in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(member, Function) and not member.name.startswith("_"):
                    yield member


def undocumented(folder: str) -> list[str]:
    """Return the public modules, classes and functions of a folder without a docstring."""
    missing = []
    for path in files_of(folder):
        names = [node.name for node in public_nodes(path) if not ast.get_docstring(node)]
        names += [] if ast.get_docstring(parse(path)[1]) else ["the module"]
        missing += [f"{path.relative_to(ROOT)}: {name}" for name in names]
    return missing


def takes_arrays(function: Function) -> bool:
    """Return whether a function's signature names a tensor or an array."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    notes = [each.annotation for each in arguments] + [function.returns]
    return any(re.search(r"\b(Tensor|NDArray)\b", ast.unparse(note)) for note in notes if note)


def shapeless(folder: str) -> list[str]:
    """Return the public functions of a folder whose docstring gives no shape for their arrays."""
    return [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in files_of(folder)
        for node in public_nodes(path)
        if isinstance(node, Function) and takes_arrays(node) and not SHAPE.search(ast.get_docstring(node) or "")
    ]


@pytest.mark.parametrize("folder", NUMERICAL)
def test_numerical_code_names_its_steps(folder: str) -> None:
    assert comments_per_hundred(folder) >= FEWEST_COMMENTS


@pytest.mark.parametrize("folder", [*NUMERICAL, *PROSE])
def test_long_functions_have_paragraphs(folder: str) -> None:
    assert share_of_dense(folder) <= LARGEST_DENSE


@pytest.mark.parametrize("folder", SHORT)
def test_functions_are_short(folder: str) -> None:
    assert p90_of_lengths(folder) <= LONGEST_P90


def test_files_are_short() -> None:
    lengths = {path: len(parse(path)[0].splitlines()) for room in ROOMS for path in files_of(room)}
    assert [str(path) for path, lines in lengths.items() if lines > LONGEST_FILE] == []
    assert MEDIAN_FILE[0] <= median(lengths.values()) <= MEDIAN_FILE[1]


@pytest.mark.parametrize("folder", [*NUMERICAL, *PROSE])
def test_what_is_public_is_documented(folder: str) -> None:
    assert undocumented(folder) == []


def test_array_functions_give_shapes() -> None:
    assert [each for folder in ("tasks/methods", "tasks/models", "tasks/engines") for each in shapeless(folder)] == []
