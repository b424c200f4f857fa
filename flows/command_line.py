"""From the words of a command line to a command: what the words cannot mean becomes one line, as every other error."""

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import typer

from schemas.errors import UserError
from schemas.shown import shorten, show_line

COMMAND = "tailforge"
MOST_CHARACTERS = 400
# typer exports no base class of the errors of a command line; it is click's ClickException, or its own copy of it.
WordsError: type[Exception] = typer.BadParameter.__mro__[2]
HOME = re.compile(r"(?P<option>--[a-z-]+=)?(?P<home>~)(?=/|$)")


def run_words(app: typer.Typer, words: Sequence[str]) -> None:
    """Run the command that the words name. Errors: UserError for words that mean none; SystemExit as the command asks.

    A `~` that no shell has replaced, as in --store=~/store, is the home too.
    """
    try:
        ended = app([_at_home(word) for word in words], COMMAND, standalone_mode=False)
    except WordsError as error:
        if not words:  # then typer has printed the help
            sys.exit(2)
        raise UserError(_describe(error)) from error
    except typer.Abort:
        sys.exit(1)
    if ended:
        sys.exit(ended)


def _at_home(word: str) -> str:
    found = HOME.match(word)
    return word if found is None else f"{found['option'] or ''}{os.path.expanduser(word[found.start('home') :])}"


def _describe(error: Any) -> str:
    """One line: what is wrong, and where the words are explained."""
    text = error.format_message().replace("Value error, ", "").strip().rstrip(".")
    shown = shorten(show_line(text), MOST_CHARACTERS)
    command = COMMAND if error.ctx is None else error.ctx.command_path
    return f"{shown[:1].lower()}{shown[1:]}; `{command} --help` explains it"
