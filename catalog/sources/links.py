"""Links in folders that may come from somebody else: none is followed out of the folder."""

from pathlib import Path


def leaves(path: Path, root: Path) -> bool:
    """Whether a path, its links followed, lies outside of the folder `root`; so does one whose links run in a ring."""
    try:
        return not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return True
