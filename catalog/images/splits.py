"""Recognise the splits that folders, files and columns name in the usual spellings."""

import re
from collections.abc import Iterable

SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
NAMES = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings}


def find_split(word: str) -> str | None:
    """Return train, validation or test for a word that means it, in upper or lower case; else None."""
    return NAMES.get(word.strip().casefold())


def find_split_of_file(name: str) -> str | None:
    """Return the split that a file's name begins with, such as `train-00000-of-00002`; else None."""
    found = re.match(r"[A-Za-z]+", name)
    return find_split(found[0]) if found else None


def match_split(split: str, known: Iterable[str | None]) -> str | None:
    """Return the one of `known` that means `split`: the same word, else another spelling."""
    names = dict.fromkeys(each for each in known if each is not None)
    if split in names:
        return split
    wanted = find_split(split) or split
    return next((name for name in names if (find_split(name) or name) == wanted), None)
