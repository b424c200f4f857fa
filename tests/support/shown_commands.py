"""The command lines that the project shows: in README and docs, in recipes and deployments, in the code's own words."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.repository import ROOT

ROOMS = ("schemas", "catalog", "tasks", "flows")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
MENTION = re.compile(r"`(tailforge [^`]+)`")
SEPARATORS = {";", "|", "||", "&&", "&"}
PROGRAMS = re.compile(r"(tailforge|make|python3?|prefect|pip|ray|apt-get|runuser|docker|hf) ")
NO_COMMANDS = {"python", "yaml", "json", "ini"}  # languages of blocks that hold none


@dataclass(frozen=True)
class Shown:
    """One command: its words, and where it stands."""

    place: str
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        return shlex.join(self.words)


def list_pages() -> list[Path]:
    """README and docs, without the pages that are written from the code."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in pages if page.parent.name != "reference"]


def list_typed() -> list[Shown]:
    """Commands to be typed as they are, each once: of blocks of the pages, comments of recipes, examples of help.

    Those of other programs than ours are among them.
    """
    found: dict[tuple[str, ...], Shown] = {}
    for mention in list_mentions():
        if mention.place.startswith(("catalog/recipes/", "flows/cli/commands")) and len(mention.words) > 2:
            found.setdefault(mention.words, mention)
    for page in list_pages():
        for block in FENCE.finditer(page.read_text()):
            if block[1] not in NO_COMMANDS:
                for words in split_commands(block[2]):
                    found.setdefault(words, Shown(str(page.relative_to(ROOT)), words))
    return list(found.values())


def list_mentions() -> list[Shown]:
    """Commands between backticks: in the text of pages, in comments of YAML files, in strings of the code."""
    files = [*list_pages(), *sorted((ROOT / "catalog" / "recipes").glob("*.yaml")), *sorted(ROOT.glob("*.yaml"))]
    texts = [(file, FENCE.sub("", file.read_text())) for file in files]
    modules = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
    texts += [(file, text) for file in modules for text in strings_of(file)]
    found: dict[tuple[str, ...], Shown] = {}
    for file, text in texts:
        for mention in MENTION.findall(re.sub(r"\s*\n#?\s*", " ", text)):
            words = tuple(shlex.split(mention))
            found.setdefault(words, Shown(str(file.relative_to(ROOT)), words))
    return list(found.values())


def split_commands(block: str) -> Iterator[tuple[str, ...]]:
    """Commands of a block of shell lines, without comments; a line of another kind is none."""
    for line in filter(PROGRAMS.match, block.replace("\\\n", " ").splitlines()):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if word not in SEPARATORS:
                command.append(word)
            elif command:
                yield tuple(command)
                command = []


def strings_of(file: Path) -> Iterator[str]:
    """Every text of a Python file; what is filled into one is X."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            yield "".join(map(str, parts))
