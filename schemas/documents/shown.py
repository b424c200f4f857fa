"""Show values of unknown origin to a person: short, and without characters that control a terminal."""

import errno
import os
import re
import unicodedata

LONGEST = 80  # characters of a value in an error
KEPT = "\n\t"
# Cc: control characters; Cs: halves of a surrogate pair; Zl, Zp: ends of lines.
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
# Characters that change the direction of text.
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def steers(character: str) -> bool:
    """Return whether a character controls a terminal or a page instead of being visible; tabs and new lines do not.

    The last two code points of a plane count as well: they are no characters, and XML forbids U+FFFE and U+FFFF.
    """
    if character in KEPT:
        return False
    is_none = ord(character) & 0xFFFE == 0xFFFE
    return is_none or character in TURNING or unicodedata.category(character) in STEERING


def is_seen(text: str) -> bool:
    """Return whether a text has a single line and no control character."""
    return not any(each in KEPT or steers(each) for each in text)


def visible(text: str) -> str:
    """Return the text with every control character as its escape, such as \\x1b."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each.encode("unicode_escape").decode() if steers(each) else each for each in text)


def show_line(text: str) -> str:
    """Return the text on one line, with single spaces in place of white space and control characters."""
    return " ".join("".join(" " if steers(each) else each for each in text).split())


def shorten(text: str, longest: int = LONGEST) -> str:
    """Return the text, or its beginning and three dots if it has more than `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def shorten_words(text: str) -> str:
    """Return the text with words above 400 and lines above 1900 characters cut in the middle."""
    words = re.sub(r"\S{400,}", lambda found: f"{found[0][:200]}...{found[0][-100:]}", text)
    return "\n".join(line if len(line) <= 1900 else f"{line[:1200]} ... {line[-600:]}" for line in words.split("\n"))


def describe_failure(error: BaseException) -> str:
    """Return an error in words, without number and path of the operating system's errors: callers name the path."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno is None or not error.strerror:
        return str(error) or type(error).__name__
    own = error.strerror != os.strerror(error.errno)  # words of the project or of a library
    return error.strerror if own else FAILURES.get(error.errno, f"{error.strerror[:1].lower()}{error.strerror[1:]}")


def count_of(number: int, word: str) -> str:
    """Return a count with its noun: "1 image", "2 images" or "2 batches"."""
    plural = "" if number == 1 else "es" if word.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{number:,} {word}{plural}"


def show_key(key: object) -> str:
    """Return a recipe's key as errors show it."""
    return shorten(visible(str(key)).replace("\n", "\\n"))


def show_text(text: str) -> str:
    """Return a text in quotes, shortened."""
    return shorten(repr(text[: LONGEST + 1]))


def show(value: object) -> str:
    """Return a value in the words of YAML, shortened."""
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
