"""Run the command that a command line names, and report every mistake in its words as one line."""

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import typer

from tailforge.schemas.documents.shown import shorten, show_line
from tailforge.schemas.errors import UserError
from tailforge.schemas.extras import when_called

COMMAND = "tailforge"
MOST_CHARACTERS = 400
# Base class of command line errors. typer does not export it: it is click's ClickException, or typer's copy of it.
WordsError: type[Exception] = typer.BadParameter.__mro__[2]
MISSING = "MissingParameter"  # name of the error's class, which typer does not export either
EXAMPLE = re.compile(r"Example: (`[^`]+`)")
HOME = re.compile(r"(?P<option>--[a-z-]+=)?(?P<home>~)(?=/|$)")

describe_number = when_called("flows.cli.option_settings", "describe_number")


def run_words(app: typer.Typer, words: Sequence[str]) -> None:
    """Run the command of a command line.

    A `~` that the shell did not replace, as in --store=~/store, means the home folder too.
    Errors: UserError for words that name no command or option; SystemExit when the command ends with an exit code.
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
    """Return a word with its leading `~` replaced by the home folder."""
    found = HOME.match(word)
    return word if found is None else f"{found['option'] or ''}{os.path.expanduser(word[found.start('home') :])}"


def _describe(error: Any) -> str:
    """Return one line with the mistake and the command that explains it."""
    text = describe_number(error) or error.format_message().replace("Value error, ", "").strip().rstrip(".")
    shown = shorten(show_line(text), MOST_CHARACTERS)
    command = COMMAND if error.ctx is None else error.ctx.command_path
    return f"{shown[:1].lower()}{shown[1:]}{_describe_missing(error)}; `{command} --help` explains it"


def _describe_missing(error: Any) -> str:
    """Return the meaning of a missing word and the command's own example; empty for other mistakes."""
    if type(error).__name__ != MISSING or error.param is None:
        return ""
    explained, example = error.param.help or "", EXAMPLE.search(error.ctx.command.help or "")
    what = f" ({explained[:1].lower()}{explained[1:].rstrip('.')})" if explained else ""
    return what + (f"; as in {example[1]}" if example else "")
