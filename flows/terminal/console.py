"""Print text on a terminal literally: without markup, without secrets and without control characters."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import TextColumn

from tailforge.schemas.documents.addresses import hide_secrets
from tailforge.schemas.documents.shown import shorten_words, steers, visible
from tailforge.schemas.errors import UserError


class TextConsole(Console):
    """A console that prints text literally: square brackets are no markup, control characters are made visible."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def print(self, *values: Any, **options: Any) -> None:
        """Print values, with control characters made visible."""
        super().print(*(visible(value) if isinstance(value, str) else value for value in values), **options)


def text_column(pattern: str) -> TextColumn:
    """Return a column of a progress bar that shows its words literally."""
    return TextColumn(pattern, markup=False)


def tell_error(text: str) -> None:
    """Write one error line to standard error."""
    sys.stderr.write(f"error: {shorten_words(visible(hide_secrets(text)))}\n")


def require_text(words: Sequence[str]) -> None:
    """Check the words of the command line. Errors: UserError for a word with a control character or invalid UTF-8."""
    for place, word in enumerate(words, 1):
        if wrong := next((each for each in word if steers(each)), None):
            raise UserError(f"word {place} of the command holds the control character U+{ord(wrong):04X}; leave it out")
