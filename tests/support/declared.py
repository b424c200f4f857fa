"""What pyproject.toml declares: extras, and the distributions and modules that come with them in this environment."""

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.repository import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def declare(extras: Iterable[str] = ()) -> list[Requirement]:
    """Requirements of the package with some of its extras."""
    return [
        Requirement(line) for line in [*PROJECT["dependencies"], *(line for name in extras for line in EXTRAS[name])]
    ]


def installed_for(requirements: Iterable[Requirement]) -> set[str]:
    """Names of all distributions that requirements bring here, theirs included."""
    found: set[tuple[str, str]] = set()
    waiting = list(requirements)
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras}:
            if (name, extra) in found:
                continue
            found.add((name, extra))
            lines = metadata.requires(name) or []
            waiting += [
                each
                for each in map(Requirement, lines)
                if each.marker is None or each.marker.evaluate({"extra": extra})
            ]
    return {name for name, _ in found}


@cache
def owners_of_modules() -> dict[str, set[str]]:
    """The distributions that bring each top-level module of this environment."""
    owners = metadata.packages_distributions()
    return {module: {canonicalize_name(each) for each in names} for module, names in owners.items()}


def modules_of(distributions: Iterable[str]) -> set[str]:
    """Top-level modules of distributions."""
    wanted = set(distributions)
    return {module for module, owners in owners_of_modules().items() if wanted & owners}
