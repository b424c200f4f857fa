"""Check paths from the command line or a recipe before any work begins."""

import errno
import os
import re
import stat
from pathlib import Path

from tailforge.schemas.documents.addresses import hide_secrets
from tailforge.schemas.documents.shown import show_text, steers
from tailforge.schemas.errors import UserError

HERE = Path()
# An address: a path object keeps one of its two slashes, and neither at the end.
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(/|$)")
LONGEST, LONGEST_PART = 4095, 255  # bytes; limits of Linux
REASONS = {errno.ELOOP: "it is a link that leads back to itself", errno.ENAMETOOLONG: "it is longer than a path can be"}


def usable_path(
    path: str | os.PathLike[str], title: str, error: type[UserError] = UserError, folder: Path = HERE
) -> Path:
    """Return the path with `~` expanded. `title`: option or field for errors. `folder`: base of a relative path.

    Errors: `error` for an impossible path, an address, the home of an unknown user and a circular link. Pipes and
    devices are refused as well, since reading them might never end.
    """
    text = os.fspath(path)
    if reason := _find_reason(text, folder):
        raise error(f"{title} {show_text(hide_secrets(text))} cannot be used: {reason}; give another path")
    return Path(os.path.expanduser(text))


def _find_reason(text: str, folder: Path) -> str | None:
    """Return why a path cannot be used, or None."""
    if not text:
        return "it is empty"
    if ADDRESS.match(text) and not (folder / text).exists():
        return "it is an address, and files of this machine are needed"
    if wrong := next((each for each in text if steers(each) or each in "\n\t"), None):
        return f"it holds the control character U+{ord(wrong):04X}"
    home = os.path.expanduser(text)
    if home.startswith("~"):
        return f"there is no user {text[1:].partition('/')[0]!r}; a name that begins with ~ is written ./~"
    if len(os.fsencode(home)) > LONGEST or any(len(os.fsencode(part)) > LONGEST_PART for part in home.split("/")):
        return REASONS[errno.ENAMETOOLONG]

    try:
        mode = os.stat(folder / home).st_mode
    except OSError as error:
        return REASONS.get(error.errno or 0)
    plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode) or home == os.devnull
    return None if plain else "it is neither a file nor a folder"
