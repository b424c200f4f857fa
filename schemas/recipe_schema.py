"""The JSON schema of recipes (draft 2020-12), so that editors complete and check them.

It says what JSON schema can say: keys, types, bounds and choices. The models alone check rules across keys, such as
shares that sum to 1.
"""

import json
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from tailforge.schemas.recipe import Recipe
from tailforge.schemas.training.embedded import AnyTrainingRecipe

Kind = Literal["recipe", "training_recipe"]
MODELS: dict[Kind, Any] = {"recipe": Recipe, "training_recipe": AnyTrainingRecipe}
IMPLIED = frozenset({"plain", "shapes"})  # kinds that a recipe need not name
# \w means any letter in Python and in pydantic, but only ASCII in editors, which follow ECMA 262.
LETTERS = "0-9A-Za-z\u0080-\U0010ffff"


class _Generator(GenerateJsonSchema):
    """Pydantic's generator with the reading of documents that the models' own validators do."""

    def tagged_union_schema(self, schema: Any) -> JsonSchemaValue:
        """Return a choice of sections. A section must name its kind, unless a recipe may leave the kind out."""
        tag, sections = schema["discriminator"], []
        for kind, choice in schema["choices"].items():
            named = isinstance(tag, str) and kind not in IMPLIED
            sections.append(self.generate_inner(choice) | ({"required": [tag]} if named else {}))
        return {"anyOf": sections}

    def str_schema(self, schema: Any) -> JsonSchemaValue:
        """Return the schema of a text, with a pattern that means the same in Python and in ECMA 262."""
        made = super().str_schema(schema)
        if "pattern" in made:
            made["pattern"] = made["pattern"].replace(r"[^\W_]", f"[{LETTERS}]").replace(r"\w", f"{LETTERS}_")
        return made

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False, since a title would repeat the key."""
        return False


@cache
def recipe_schema(kind: Kind = "recipe") -> dict[str, Any]:
    """Return the JSON schema of recipes of builds, or of all training recipes."""
    made = TypeAdapter(MODELS[kind]).json_schema(schema_generator=_Generator)
    return {"$schema": _Generator.schema_dialect, "title": f"Tailforge {kind.replace('_', ' ')}", **made}


def schema_text(kind: Kind = "recipe") -> str:
    """Return the JSON schema as a file's text, in ASCII."""
    return json.dumps(recipe_schema(kind), indent=1) + "\n"
