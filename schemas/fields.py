"""What the models of a recipe are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]


class Strict(BaseModel):
    """Frozen, and refuses unknown keys, so that a typo is an error and not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSource(Strict):
    """Where a model comes from."""

    model: str = Field(
        min_length=1,
        description="`catalog:NAME` (catalog/models/NAME), a directory relative to the recipe, or hub id `owner/name`.",
    )
    revision: str | None = Field(None, description="Commit of a hub model, 40 hex digits; required for hub ids.")
    subfolder: str | None = Field(None, pattern=r"^[\w.-]+$", description="Folder inside the model's directory.")
