"""Write YAML whose every line says why it is there."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tailforge.schemas.documents.shown import show_line

COLUMN = 44  # where comments begin, if a line leaves room


@dataclass
class Commented:
    """Lines of YAML with comments."""

    lines: list[str] = field(default_factory=list)

    def remark(self, *texts: str) -> "Commented":
        """Add whole lines of comment."""
        self.lines += [f"# {show_line(text)}" for text in texts]
        return self

    def add(self, text: str, why: str) -> "Commented":
        """Add a line of YAML with its comment."""
        self.lines.append(f"{text:<{COLUMN}}  # {show_line(why)}")
        return self

    def put(self, key: str, value: Any, why: str) -> "Commented":
        """Add a key, which may begin with spaces or a dash, and its value, with the comment."""
        return self.add(f"{key}: {write_value(value)}", why)

    def text(self) -> str:
        """Return the document."""
        return "\n".join((*self.lines, ""))


def write_value(value: Any) -> str:
    """Return a value as YAML on one line. Texts are in quotes unless they are plain words."""
    if isinstance(value, str):
        plain = value.isascii() and value.replace("_", "").replace("-", "").isalnum() and value[0].isalpha()
        return value if plain and value.lower() not in RESERVED else json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {write_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(write_value, value)) + "]"
    return json.dumps(value)


RESERVED = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
