"""Text of others on a terminal: printed as it is, without marks of style, without secrets, without what steers it."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import TextColumn

from tailforge.schemas.documents.addresses import hide_secrets
from tailforge.schemas.documents.shown import shorten_words, steers, visible
from tailforge.schemas.errors import UserError


class TextConsole(Console):
    """Prints text as text: square brackets are no marks, and no character steers the terminal."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def print(self, *values: Any, **options: Any) -> None:
        super().print(*(visible(value) if isinstance(value, str) else value for value in values), **options)


def text_column(pattern: str) -> TextColumn:
    """A column of a progress bar that shows its words as they are."""
    return TextColumn(pattern, markup=False)


def tell_error(text: str) -> None:
    """One error on standard error."""
    sys.stderr.write(f"error: {shorten_words(visible(hide_secrets(text)))}\n")


def require_text(words: Sequence[str]) -> None:
    """Errors: UserError for a word of the command line that holds a control character, or is no UTF-8."""
    for place, word in enumerate(words, 1):
        if wrong := next((each for each in word if steers(each)), None):
            raise UserError(f"word {place} of the command holds the control character U+{ord(wrong):04X}; leave it out")
