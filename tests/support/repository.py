"""Where the repository is that the tests belong to."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a wheel is built from.
SHIPPED = ("src", "schemas", "catalog", "tasks", "flows", "pyproject.toml", "README.md", "LICENSE")
