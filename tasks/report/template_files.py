"""Read the templates of pages from the folder beside this file."""

from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"


def read_template(name: str) -> str:
    """Return the text of a template, such as `report.html.j2`."""
    return (TEMPLATES / name).read_text(encoding="utf-8")
