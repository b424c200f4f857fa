"""The licence of a dataset, an SPDX identifier or another licence by name, and its form in published formats."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import BeforeValidator, Field, ValidationInfo

from tailforge.schemas.documents.shown import show
from tailforge.schemas.settings.fields import AUTHORED, Name, Strict

IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
ANY_VERSION = re.compile(r"-(only|or-later)$")
# Licences that the Hub names by the lower case of the SPDX identifier.
HUB = frozenset((
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear",
    "bsl-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0",
    "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2", "gpl-2.0", "gpl-3.0", "isc", "lgpl-2.1",
    "lgpl-3.0", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa", "ofl-1.1", "osl-3.0", "postgresql", "unlicense",
    "wtfpl", "zlib"
))  # fmt: skip
# Licences that the Hub names otherwise, by the lower case of the SPDX identifier.
HUB_WORDS: Mapping[str, str] = {"odbl-1.0": "odbl", "odc-by-1.0": "odc-by", "pddl-1.0": "pddl", "c-uda-1.0": "c-uda"}


class OtherLicence(Strict):
    """A licence without an SPDX identifier, or several licences: CC0-1.0 OR MIT."""

    name: Name = Field(description="Name of the licence, or an SPDX expression of several.")
    url: Annotated[str, Field(pattern=r"^https?://[^\s/@?]+(/[^\s@?]*)?$", max_length=1000)] | None = Field(
        None, description="Address of the licence's text."
    )


@dataclass(frozen=True)
class Licence:
    """A licence for published formats. `url`: address of its text, None if unknown. `hub`: keys of a dataset card."""

    name: str
    url: str | None
    hub: Mapping[str, str]


def find_identifier(text: str) -> str | None:
    """Return a text as an SPDX identifier in SPDX's spelling; None if it is none, or several."""
    if not IDENTIFIER.fullmatch(text) or text.lower().startswith("licenseref-"):
        return None
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return None


def _check_identifier(value: Any, info: ValidationInfo) -> Any:
    """Check and normalise the identifier of an author. Errors: ValueError."""
    if info.context != AUTHORED or not isinstance(value, str):
        return value
    found = find_identifier(value.strip())
    if found is None:
        raise ValueError(
            f"{show(value)} is no SPDX identifier (https://spdx.org/licenses), such as CC-BY-4.0 or CC0-1.0; write any "
            "other licence, or several, as license: {name: ..., url: ...}"
        )
    return found


Identifier = Annotated[str, Field(min_length=1, max_length=1000), BeforeValidator(_check_identifier)]
AnyLicence = Identifier | OtherLicence


def describe_licence(found: str | Mapping[str, Any] | OtherLicence) -> Licence:
    """Return the licence that a recipe's `license` names. Recipes of older versions may hold any text."""
    if isinstance(found, OtherLicence):
        found = found.model_dump()
    name = str(found.get("name") if isinstance(found, Mapping) else found)
    url = found.get("url") if isinstance(found, Mapping) else None
    identifier = find_identifier(name)
    if identifier is not None and url is None:
        name, url = identifier, f"https://spdx.org/licenses/{identifier}.html"
        short = ANY_VERSION.sub("", identifier.lower())
        if hub := HUB_WORDS.get(short, short if short in HUB else None):
            return Licence(name, url, {"license": hub})
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") or "other"
    return Licence(name, url, {"license": "other", "license_name": slug} | ({"license_link": url} if url else {}))
