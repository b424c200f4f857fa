"""Find names that a recipe may hold for the classes of photographs, and names of folders for these."""

import re
import unicodedata
from collections.abc import Iterable

from tailforge.schemas.settings.fields import look, tidy

LONGEST = 64  # characters of a concept's name
LONGEST_FOLDER = 48
WORDS = ("Lu", "Ll", "Lt", "Lm", "Lo", "Nl", "Mn", "Mc", "Me", "Nd")  # Unicode categories that a name may hold
FIRST = ("Lu", "Ll", "Lt", "Lm", "Lo", "Nl", "Nd")


def name_concepts(classes: Iterable[str]) -> dict[str, str]:
    """Return a concept's name per class, in the order of the classes.

    An underscore becomes a space, as in captions. Other characters that a recipe refuses become spaces too. A name
    without any usable character becomes "class N", and a name that looks like an earlier one gets a number.
    """
    names: dict[str, str] = {}
    seen: set[str] = set()
    for number, each in enumerate(classes, 1):
        wished = _keep_words(each) or f"class {number}"
        name, attempt = wished, 2
        while look(name) in seen:
            tail = f" {attempt}"
            name, attempt = wished[: LONGEST - len(tail)].rstrip() + tail, attempt + 1
        seen.add(look(name))
        names[each] = name
    return names


def name_folder(concept: str) -> str:
    """Return the name of the folder for a concept's photographs: lower case, `_` for spaces.

    Different concepts of `name_concepts` may get one folder name only if they differ after LONGEST_FOLDER characters;
    `name_folders` tells these apart.
    """
    return look(concept).replace(" ", "_")[:LONGEST_FOLDER]


def name_folders(concepts: Iterable[str]) -> dict[str, str]:
    """Return a different folder name per concept."""
    folders: dict[str, str] = {}
    for number, each in enumerate(concepts, 1):
        name = name_folder(each)
        folders[each] = f"{name}_{number}" if name in folders.values() else name
    return folders


def name_dataset(place: str) -> str:
    """Return a dataset's name from the name of a folder or file: lower case letters, digits, - and _."""
    plain = unicodedata.normalize("NFKD", place).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-_")[:LONGEST] or "photographs"


def _keep_words(name: str) -> str:
    """Return the name with a space for each character that a recipe refuses."""
    text = tidy(unicodedata.normalize("NFC", name))
    kept = "".join(each if each == "-" or unicodedata.category(each) in WORDS else " " for each in text)
    words = tidy(kept)
    while words and unicodedata.category(words[0]) not in FIRST:
        words = words[1:].lstrip()
    return words[:LONGEST].rstrip()
