"""Types and base classes of all recipe models."""

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from tailforge.schemas.documents.shown import show

AUTHORED = {"authored": True}  # validation context of a person's document; stored documents are not tidied


def tidy(name: str) -> str:
    """Return a name in its stored form: composed (NFC), stripped, with single spaces."""
    return " ".join(unicodedata.normalize("NFC", name).split())


@lru_cache(10_000)
def look(name: str) -> str:
    """Return the key that names of the same look share: tidy, case-folded, without invisible characters."""
    seen = "".join(each for each in unicodedata.normalize("NFC", name) if unicodedata.category(each) != "Cf")
    return tidy(seen.casefold())


def refuse_alike(names: Any, title: str, info: ValidationInfo) -> None:
    """Refuse two of an author's names that look alike. `title`: name of the list in the error.

    The function ignores values that are no text, which fail by their own type. Errors: ValueError.
    """
    if info.context != AUTHORED or not isinstance(names, Iterable):
        return
    seen: dict[str, str] = {}
    for name in names:
        if isinstance(name, str):
            if look(name) in seen:
                raise ValueError(
                    f"{title}: {show(seen[look(name)])} and {show(name)} look alike (upper case, spaces and the form "
                    "of accents do not count); leave one out"
                )
            seen[look(name)] = name


def _tidy_authored(value: Any, info: ValidationInfo) -> Any:
    """Tidy a text of a person's document."""
    return tidy(value) if info.context == AUTHORED and isinstance(value, str) else value


Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]  # factor of one loss in a sum
Positive = Annotated[float, Field(gt=0, le=1e6)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Name = Annotated[str, Field(min_length=1, max_length=1000), BeforeValidator(_tidy_authored)]
NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
FolderName = Annotated[str, Field(pattern=NAME, max_length=64)]  # of a dataset or a model
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86_400)]
Words = Annotated[str, Field(max_length=10_000)]  # longer text, possibly empty
SlotName = Annotated[str, Field(max_length=64), BeforeValidator(_tidy_authored)]
Place = Annotated[str, Field(min_length=1, max_length=4096)]  # a path, an address, or a name for one


class Strict(BaseModel):
    """Base of frozen models that refuse unknown keys, so that a typing error is no silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSource(Strict):
    """The source of a model."""

    model: Place = Field(
        description="`catalog:NAME` (catalog/models/NAME), a directory relative to the recipe, or hub id `owner/name`.",
    )
    revision: str | None = Field(
        None, max_length=100, description="Commit of a hub model, 40 hex digits; required for hub ids."
    )
    subfolder: str | None = Field(
        None, pattern=r"^[\w-][\w.-]*$", max_length=255, description="Folder inside the model's directory."
    )
