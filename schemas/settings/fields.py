"""What the models of a recipe are made of."""

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from tailforge.schemas.documents.shown import show

# What is done with an image of another size than a model reads: refused, or scaled to fit (also up), the middle kept.
Fit = Literal["exact", "crop"]

AUTHORED = {"authored": True}  # context of reading what a person wrote; what was stored before stays as it is


def tidy(name: str) -> str:
    """A name as it is kept: composed (NFC), without spaces around it, with single spaces inside."""
    return " ".join(unicodedata.normalize("NFC", name).split())


@lru_cache(10_000)
def look(name: str) -> str:
    """What two names have in common that look alike: `tidy`, without upper case and characters that are not seen."""
    seen = "".join(each for each in unicodedata.normalize("NFC", name) if unicodedata.category(each) != "Cf")
    return tidy(seen.casefold())


def refuse_alike(names: Any, what: str, info: ValidationInfo) -> None:
    """Errors: ValueError if an author gave two names that look alike; anything but names is left to its own type."""
    if info.context != AUTHORED or not isinstance(names, Iterable):
        return
    seen: dict[str, str] = {}
    for name in names:
        if isinstance(name, str):
            if look(name) in seen:
                raise ValueError(
                    f"{what}: {show(seen[look(name)])} and {show(name)} look alike (upper case, spaces and the form of "
                    "accents do not count); leave one out"
                )
            seen[look(name)] = name


def _tidy_authored(value: Any, info: ValidationInfo) -> Any:
    return tidy(value) if info.context == AUTHORED and isinstance(value, str) else value


Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]  # of a loss beside others
Positive = Annotated[float, Field(gt=0, le=1e6)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Name = Annotated[str, Field(min_length=1, max_length=1000), BeforeValidator(_tidy_authored)]
NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
FolderName = Annotated[str, Field(pattern=NAME, max_length=64)]  # of a dataset or a model
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86_400)]
Words = Annotated[str, Field(max_length=10_000)]  # longer text, which may be empty
SlotName = Annotated[str, Field(max_length=64), BeforeValidator(_tidy_authored)]
Place = Annotated[str, Field(min_length=1, max_length=4096)]  # a path, an address, or a name that stands for one


class Strict(BaseModel):
    """Frozen, and refuses unknown keys, so that a typo is an error and not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSource(Strict):
    """Where a model comes from."""

    model: Place = Field(
        description="`catalog:NAME` (catalog/models/NAME), a directory relative to the recipe, or hub id `owner/name`.",
    )
    revision: str | None = Field(
        None, max_length=100, description="Commit of a hub model, 40 hex digits; required for hub ids."
    )
    subfolder: str | None = Field(
        None, pattern=r"^[\w-][\w.-]*$", max_length=255, description="Folder inside the model's directory."
    )
