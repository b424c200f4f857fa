"""Where a document comes from: its name in errors, and the lines of its keys."""

import re
from functools import cached_property

from tailforge.schemas.documents.yaml_file import find_places

FIRST_WORD = re.compile(r"[^\s:;,]+")


class Origin:
    """The origin of a YAML document. Its text in errors is its name.

    `text`: the document, which `parse_yaml` accepts. `replaced`: paths of values that come from elsewhere, such as
    overrides; their mistakes have no place in the document.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        self.replaced: set[str] = set()

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    @cached_property
    def places(self) -> dict[str, tuple[int, int]]:
        """Return (line, column) of every key and element of a list by its path."""
        return find_places(self.text)

    def locate(self, mistake: str) -> str:
        """Return "line 3, column 5: " for a mistake that begins with the path of a key; empty if that has no place.

        A key that is not in the document has the place of the section that lacks it.
        """
        # A path ends at a colon, and may hold spaces; or it is the first word of a sentence.
        word = FIRST_WORD.match(mistake)
        ways = [*_shorten(mistake.partition(": ")[0]), *_shorten(word[0] if word else "")]
        if self.replaced.intersection(ways):
            return ""
        known = max((way for way in ways if way in self.places), key=len, default=None)
        return "" if known is None else "line {}, column {}: ".format(*self.places[known])


def _shorten(path: str) -> list[str]:
    """Return a path and the paths of all sections that contain it."""
    keys = path.split(".")
    return [".".join(keys[:length]) for length in range(len(keys), 0, -1)]
