"""Detect links that leave a folder, since a stranger may have made the folder."""

from pathlib import Path


def leaves(path: Path, root: Path) -> bool:
    """Return whether a path, after resolving links, is outside the folder `root`. Circular links count as outside."""
    try:
        return not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return True
