"""Stage `prompts`: the texts that one concept's images are asked for with."""

from functools import partial
from typing import Any

import pyarrow as pa
from prefect import task

from tailforge.catalog.store import Store
from tailforge.schemas.jobs import BuildContext, Prompt
from tailforge.schemas.recipe import Concept
from tailforge.schemas.tables import PROMPTS
from tailforge.tasks.artifacts.contract import Address, Stage, run_once
from tailforge.tasks.methods.planning.expand_prompts import Complete, collect_words
from tailforge.tasks.methods.planning.expand_prompts import expand_prompts as expand
from tailforge.tasks.models.language_model import load_language_model
from tailforge.tasks.models.lexicon import WORDNET, load_wordnet
from tailforge.tasks.stages.options import STAGE_TASK

STAGE = Stage("prompts", "1", PROMPTS)


def locate(build: BuildContext, concept: str) -> Address:
    """Address of one concept's prompts; it depends on nothing of the other concepts."""
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


@task(task_run_name="expand prompts of {concept}", **STAGE_TASK)
def expand_prompts(build: dict[str, Any], concept: str) -> dict[str, Any]:
    """Write the concept's prompts and return their receipt. Errors: RecipeError, ModelError, StoreError."""
    context = BuildContext.model_validate(build)
    store = Store.open(context.store)

    def produce() -> pa.Table:
        lexicon = load_wordnet() if context.recipe.prompts.wordnet else None
        prompts = expand(
            context.recipe, find_concept(context, concept), lexicon=lexicon, complete=_language_model(context)
        )
        return pa.Table.from_pylist([prompt.model_dump() for prompt in prompts], PROMPTS)

    return run_once(store, locate(context, concept), produce).model_dump(mode="json")


def read_prompts(table: pa.Table) -> list[Prompt]:
    """Rows of a PROMPTS table."""
    return [Prompt.model_validate(row) for row in table.to_pylist()]


def find_concept(build: BuildContext, name: str) -> Concept:
    """The recipe's concept of that name."""
    return build.recipe.concepts[build.recipe.class_id(name)]


def _language_model(build: BuildContext) -> Complete | None:
    expander = build.recipe.prompts.language_model
    if expander is None or build.language_model is None:
        return None
    model = load_language_model(build.language_model)
    return partial(model.complete, max_new_tokens=expander.max_new_tokens, temperature=expander.temperature)


def _ordered(values: Any) -> list[Any]:
    """Values in the recipe's order, which decides the design (a JSON object would be sorted)."""
    return [list(entry) for entry in values.items()] if hasattr(values, "items") else list(values)
