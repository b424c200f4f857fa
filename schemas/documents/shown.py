"""What a person is shown of values that others wrote: short, and without characters that steer a terminal."""

import errno
import os
import re
import unicodedata

LONGEST = 80  # characters of a value in an error
KEPT = "\n\t"
# Cc: control characters; Cs: halves of a pair; Zl, Zp: ends of lines. Further those that turn the direction of text.
STEERING = ("Cc", "Cs", "Zl", "Zp")
FAILURES = {
    errno.ENOENT: "it does not exist",
    errno.EACCES: "this user has no permission",
    errno.EPERM: "it is not permitted",
    errno.EROFS: "its filesystem can only be read",
    errno.ENOTDIR: "a part of its path is no folder",
    errno.EISDIR: "it is a folder",
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the quota of this user is used up",
    errno.EIO: "the disk or the connection failed",
    errno.EADDRINUSE: "it is in use",
}
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def steers(character: str) -> bool:
    """Whether a character does something to a terminal or a page in place of being seen; tabs and new lines do not."""
    if character in KEPT:
        return False
    return character in TURNING or unicodedata.category(character) in STEERING


def is_seen(text: str) -> bool:
    """Whether a text is on one line and no character of it steers."""
    return not any(each in KEPT or steers(each) for each in text)


def visible(text: str) -> str:
    """The text with every character that steers written as its escape, such as \\x1b."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each.encode("unicode_escape").decode() if steers(each) else each for each in text)


def show_line(text: str) -> str:
    """The text on one line, with single spaces, also in place of what steers."""
    return " ".join("".join(" " if steers(each) else each for each in text).split())


def shorten(text: str, longest: int = LONGEST) -> str:
    """The text, or its beginning and three dots."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def shorten_words(text: str) -> str:
    """The text with every word of hundreds of characters, and every line of thousands, cut in its middle."""
    words = re.sub(r"\S{400,}", lambda found: f"{found[0][:200]}...{found[0][-100:]}", text)
    return "\n".join(line if len(line) <= 1900 else f"{line[:1200]} ... {line[-600:]}" for line in words.split("\n"))


def describe_failure(error: BaseException) -> str:
    """What went wrong in words, of the operating system's errors without their number and path: callers name that."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno is None or not error.strerror:
        return str(error) or type(error).__name__
    own = error.strerror != os.strerror(error.errno)  # our words, or those of a library
    return error.strerror if own else FAILURES.get(error.errno, f"{error.strerror[:1].lower()}{error.strerror[1:]}")


def count_of(number: int, word: str) -> str:
    """A count with its noun, "1 image", "2 images" or "2 batches"."""
    plural = "" if number == 1 else "es" if word.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{number:,} {word}{plural}"


def show_key(key: object) -> str:
    """A key of a recipe as an error names it."""
    return shorten(visible(str(key)).replace("\n", "\\n"))


def show_text(text: str) -> str:
    """Text in quotes, shortened."""
    return shorten(repr(text[: LONGEST + 1]))


def show(value: object) -> str:
    """What was found, in the words of YAML."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple | set):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return show_text(value)
    if isinstance(value, int) and value.bit_length() > 4 * LONGEST:
        return f"a whole number of {value.bit_length()} bits"
    return shorten(repr(value))
