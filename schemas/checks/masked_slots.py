"""What is wrong with a slot that a recipe wants masks of, and what was probably meant."""

import difflib
import re
from collections.abc import Collection, Mapping

BACKGROUND = "background"  # what a mask's value 0 is called in every format


def explain_slot(
    name: str,
    known: Collection[str],
    attributes: Mapping[str, Collection[str]],
    templates: Collection[str],
    words: Collection[str],
) -> str:
    """Advice on a name that is no slot of the prompts.

    `known`: the slots; `attributes`: values by slot; `templates`: without their slots; `words`: those for concepts, in
    lower case.
    """
    bare = name.strip("{} ")
    if bare in known:
        return f"write {bare}, without braces"
    if close := difflib.get_close_matches(bare.lower(), known, n=1):
        return f"did you mean {close[0]!r}?"
    if bare.lower() in words:
        return "it is a word for a concept, so name the slot concept"
    if holder := _find_holder(bare, attributes):
        return f"it is a value of slot {holder}, or part of one, so name that slot"
    if bare and any(_holds(template, bare) for template in templates):
        return f"write it as a slot, prompts.attributes: {{thing: [{bare}]}} and {{thing}} in a template"
    return "no template holds it, so no image could show it"


def _find_holder(name: str, attributes: Mapping[str, Collection[str]]) -> str | None:
    exact = [slot for slot, values in attributes.items() if name.lower() in {value.lower() for value in values}]
    part = [slot for slot, values in attributes.items() if name and any(_holds(value, name) for value in values)]
    return next(iter([*exact, *part]), None)


def _holds(text: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None


def refuse_value(slot: str, value: str, thing: bool, is_concept: bool) -> str | None:
    """Why a value of a masked slot cannot be a category of the masks; None if it can."""
    if value.lower() == BACKGROUND:
        return f"slot {slot} holds {value!r}, which is what masks call their value 0; use another word"
    if is_concept and not thing:
        return (
            f"slot {slot} is stuff and holds {value!r}, which is a concept, so a thing; leave the value out, or make "
            "the slot one of annotation.things"
        )
    return None
