"""Stage `prompts`: the prompts of one concept."""

from typing import Any

import pyarrow as pa

from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import BuildContext, Prompt
from tailforge.schemas.recipe import Concept
from tailforge.schemas.settings.prompts import WORDNET
from tailforge.schemas.tables import PROMPTS
from tailforge.tasks.artifacts.contract import Address
from tailforge.tasks.artifacts.stage import Stage
from tailforge.tasks.methods.planning.expand_prompts import collect_words


def locate(build: BuildContext, concept: str) -> Address:
    """Return the address of one concept's PROMPTS. Other concepts do not change it."""
    recipe, own = build.recipe, find_concept(build, concept)
    prompts = recipe.prompts
    expander = prompts.language_model

    return Address(
        stage=STAGE,
        part=0,
        label=f"prompts of {concept}",
        settings={
            "seed": recipe.seed,
            "words": collect_words(recipe, own),
            "templates": prompts.templates if own.templates is None else own.templates,
            "attributes": [[name, _ordered(values)] for name, values in prompts.attributes.items()],
            "per_concept": prompts.per_concept,
            "balance": prompts.balance,
            "wordnet": WORDNET if prompts.wordnet else None,
            "language_model": expander.model_dump(mode="json", exclude={"source"}) if expander else None,
        },
        inputs={},
        models={"language_model": build.language_model.digest} if build.language_model else {},
    )


STAGE = Stage(
    name="prompts",
    version="1",
    schema=PROMPTS,
    costing=("language_model", "per_concept", "wordnet"),
    locate=locate,
    produce=when_called("tasks.stages.work.prompts", "produce"),
)


def read_prompts(table: pa.Table) -> list[Prompt]:
    """Return the prompts of a PROMPTS table."""
    return [Prompt.model_validate(row) for row in table.to_pylist()]


def find_concept(build: BuildContext, name: str) -> Concept:
    """Return the concept with that name."""
    return build.recipe.concepts[build.recipe.class_id(name)]


def _ordered(values: Any) -> list[Any]:
    """Return the values as a list, because their order decides the prompts and canonical JSON sorts objects."""
    return [list(entry) for entry in values.items()] if hasattr(values, "items") else list(values)
