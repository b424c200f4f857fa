"""Look for the libraries of each extra, without importing them."""

import re
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from importlib.util import find_spec

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tailforge.flows.doctor.findings import Finding, State
from tailforge.schemas.extras import how_to_install

# What does not work without an extra. `build` is for everything that makes images.
EXTRAS = {
    "build": "no build, training or review",
    "augment": "no augmentation, and no training of classifiers and encoders",
    "s3": "no store in a bucket",
    "hub": "no push to the Hugging Face Hub, and no pull",
    "ray": "no cluster by --runner ray",
    "tensorboard": "no curves of a generator's training",
}
NAME = re.compile(r"extra *== *['\"]([\w-]+)['\"]")


def look_at_libraries() -> Iterator[Finding]:
    """Yield for each extra whether its libraries are installed, in releases that it allows."""
    yield Finding("tailforge", "ok", metadata.version("tailforge"))
    for extra, lost in EXTRAS.items():
        lacking = list(find_lacking(extra))
        state: State = "broken" if extra == "build" else "limited"
        if lacking:
            found = f"{', '.join(lacking)}: {lost}"
            yield Finding(f"extra {extra}", state, found, how_to_install(extra))
        else:
            yield Finding(f"extra {extra}", "ok", "installed")


def find_lacking(extra: str) -> Iterator[str]:
    """Yield what is missing of an extra, or installed in another release."""
    for line in metadata.requires("tailforge") or ():
        wanted = Requirement(line)
        named = NAME.search(str(wanted.marker or ""))
        if named is None or named[1] != extra:
            continue
        if not any(map(find_spec, list_modules().get(canonicalize_name(wanted.name), ()))):
            yield f"{wanted.name} is missing"
        elif not wanted.specifier.contains(found := metadata.version(wanted.name), prereleases=True):
            yield f"{wanted.name} is {found}, not {wanted.specifier}"


@cache
def list_modules() -> dict[str, list[str]]:
    """Return the top-level modules of each installed distribution."""
    found: dict[str, list[str]] = {}
    for module, owners in metadata.packages_distributions().items():
        for owner in owners:
            found.setdefault(canonicalize_name(owner), []).append(module)
    return found
