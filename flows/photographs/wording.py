"""Read the prompts that a person gives to `tailforge init`."""

from collections.abc import Sequence

from pydantic import ValidationError

from tailforge.flows.photographs.generator_text import TEMPLATE
from tailforge.schemas.documents.shown import show_text
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.settings.fields import AUTHORED
from tailforge.schemas.settings.prompts import SLOT, Prompts, check_template


def read_prompts(prompt: str | None, words: Sequence[str]) -> Prompts:
    """Return the prompts of a recipe.

    `prompt`: a template with {concept}, by default that of the captions. `words`: SLOT=WORD,WORD for each of its other
    slots. Errors: RecipeError.
    """
    template = prompt or TEMPLATE
    attributes = dict(map(_read_word, words))
    if unused := sorted(set(attributes) - set(SLOT.findall(template))):
        raise RecipeError(f"--word {show_text(unused[0])}: --prompt {show_text(template)} has no such slot")
    try:
        check_template(template, attributes)
        return Prompts.model_validate({"templates": (template,), "attributes": attributes}, context=AUTHORED)
    except ValidationError as error:
        raise RecipeError(f"--word: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
    except ValueError as error:
        raise RecipeError(f"--prompt: {error}; give its words by --word SLOT=WORD,WORD") from error


def _read_word(text: str) -> tuple[str, tuple[str, ...]]:
    """Return slot and words of SLOT=WORD,WORD. Errors: RecipeError."""
    slot, _, values = text.partition("=")
    words = tuple(each.strip() for each in values.split(",") if each.strip())
    if not words or not SLOT.fullmatch(f"{{{slot}}}"):
        raise RecipeError(f"--word {show_text(text)}: write it as slot=word,word, such as material=steel,brass")
    return slot, words
