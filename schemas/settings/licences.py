"""Licences of datasets and of photographs: SPDX identifiers or others by name, and their form in published formats."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError, ValidationInfo

from tailforge.schemas.documents.shown import show
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.settings.fields import AUTHORED, Name, Strict, tidy

IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
UNKNOWN = "unknown"  # licence of photographs that a recipe does not state
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

    @property
    def address(self) -> str:
        """Return the address of its text, or its name if there is none."""
        return self.url or self.name


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
            "other licence, or several, as {name: ..., url: ...}"
        )
    return found


def _check_unless_unknown(value: Any, info: ValidationInfo) -> Any:
    """Check and normalise the identifier of an author, who may not know it. Errors: ValueError."""
    return value if value == UNKNOWN else _check_identifier(value, info)


def _choose_kind(value: Any) -> str:
    """Return the tag of a licence's kind, so that a mistake is told for this kind alone."""
    return "other" if isinstance(value, (Mapping, OtherLicence)) else "identifier"


LicenceText = Annotated[str, Field(min_length=1, max_length=1000)]
Other = Annotated[OtherLicence, Tag("other")]
AnyLicence = Annotated[
    Annotated[LicenceText, BeforeValidator(_check_identifier), Tag("identifier")] | Other, Discriminator(_choose_kind)
]
# Recipes that state no licence are stored as those of older releases, which have no such key.
PhotographsLicence = Annotated[
    Annotated[LicenceText, BeforeValidator(_check_unless_unknown), Tag("identifier")] | Other,
    Discriminator(_choose_kind),
    Field(exclude_if=lambda licence: licence == UNKNOWN),
]
PHOTOGRAPHS_LICENCE = (
    "Licence of these photographs: an SPDX identifier, another licence as {name: ..., url: ...}, or unknown. Versions "
    "state it."
)
# Key of the recipe that states the licence, by the use of the photographs.
USES: Mapping[str, str] = {
    "training": "generator.adapt.images.license",
    "references": "references_license",
    "steering": "allocation.real.license",
    "inpainting": "engine.sources.license",
    "copies of defects": "engine.defects_license",
}


def parse_licence(text: str) -> str | OtherLicence:
    """Return the licence that a person names: an SPDX identifier in SPDX's spelling, `unknown`, or another name.

    Errors: RecipeError for an empty or very long name.
    """
    name = tidy(text)
    if known := UNKNOWN if name == UNKNOWN else find_identifier(name):
        return known
    try:
        return OtherLicence(name=name)
    except ValidationError as error:
        raise RecipeError(
            f"licence {show(text)}: give an SPDX identifier such as CC-BY-4.0, a name of at most 1,000 characters, or "
            "unknown"
        ) from error


def describe_licence(found: str | OtherLicence) -> Licence:
    """Return the licence that a recipe's key names. Recipes of older versions may hold any text."""
    name, url = (found.name, found.url) if isinstance(found, OtherLicence) else (found, None)
    identifier = find_identifier(name)
    if identifier is not None and url is None:
        name, url = identifier, f"https://spdx.org/licenses/{identifier}.html"
        short = ANY_VERSION.sub("", identifier.lower())
        if hub := HUB_WORDS.get(short, short if short in HUB else None):
            return Licence(name, url, {"license": hub})
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") or "other"
    return Licence(name, url, {"license": "other", "license_name": slug} | ({"license_link": url} if url else {}))
