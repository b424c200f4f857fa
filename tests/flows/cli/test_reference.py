"""The reference pages are those that the code writes; every command shows an example that can be run."""

import re
import shlex

import pytest
import typer

from tailforge.flows.cli.commands import app
from tailforge.flows.cli.reference import DOCS, PAGES

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES)
def test_page_is_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page](), "run `make docs`"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_parses(name: str) -> None:
    command = COMMANDS[name]
    example = re.search(r"Example: `tailforge ([^`]+)`", command.help)
    assert example, f"{name} has no example"
    words = shlex.split(example[1])
    assert words[0] == name
    command.make_context(name, words[1:])
