"""Write the prompts of a concept, for stage `prompts`."""

from functools import partial

import pyarrow as pa

from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.tables import PROMPTS
from tailforge.tasks.artifacts.contract import Made
from tailforge.tasks.artifacts.stage import Workplace
from tailforge.tasks.methods.planning.expand_prompts import Complete, expand_prompts
from tailforge.tasks.models.language_model import load_language_model
from tailforge.tasks.models.lexicon import load_wordnet
from tailforge.tasks.stages.prompts import find_concept


def produce(_: Workplace, build: BuildContext, concept: str) -> Made:
    """Make the PROMPTS of one concept. Errors: RecipeError, ModelError."""
    lexicon = load_wordnet() if build.recipe.prompts.wordnet else None
    prompts = expand_prompts(
        build.recipe, find_concept(build, concept), lexicon=lexicon, complete=_language_model(build)
    )
    return Made(pa.Table.from_pylist([prompt.model_dump() for prompt in prompts], PROMPTS))


def _language_model(build: BuildContext) -> Complete | None:
    """Return the function that completes a text; None without a language model. Errors: ModelError."""
    expander = build.recipe.prompts.language_model
    if expander is None or build.language_model is None:
        return None
    model = load_language_model(build.language_model)
    return partial(model.complete, max_new_tokens=expander.max_new_tokens, temperature=expander.temperature)
