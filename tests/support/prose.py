"""The sentences of a Markdown page: its text without code, tables, headings, pictures and addresses of links."""

import re
from pathlib import Path

FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
ITEM = re.compile(r"\s*(?:[-*+]|\d+\.)\s")
# A sentence ends at a full stop or a question mark before a space and a capital; "0.5" and "a.b" have no space.
END = re.compile(r"(?<=[.?!])[\"*)]*\s+(?=[\"'`*(\[A-Z0-9])")
WORD = re.compile(r"[^\W_]")


def sentences_of(page: Path) -> list[str]:
    """Return the sentences of a page, in order; a list item or a paragraph begins a new one."""
    text = FENCE.sub("\n", page.read_text(encoding="utf-8"))
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "Code", text)
    blocks: list[str] = [""]
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith(("|", "#", "    ")):
            blocks.append("")
        elif ITEM.match(line):
            blocks.append(line.strip())
        else:
            blocks[-1] += " " + line.strip()
    found = [sentence.strip() for block in blocks for sentence in END.split(block)]
    return [sentence for sentence in found if WORD.search(sentence)]


def count_words(sentence: str) -> int:
    """Return the number of words; a piece of code counts as one."""
    return sum(bool(WORD.search(word)) for word in sentence.split())
