"""Explain an unusable slot in annotation.things or annotation.stuff, and suggest a correction."""

import difflib
import re
from collections.abc import Collection, Mapping

BACKGROUND = "background"  # name of a mask's value 0 in every format


def explain_slot(
    name: str,
    known: Collection[str],
    attributes: Mapping[str, Collection[str]],
    templates: Collection[str],
    words: Collection[str],
) -> str:
    """Return advice on a name that is no slot of the prompts.

    `known`: the slots; `attributes`: values by slot; `templates`: texts without their slots; `words`: names and
    synonyms of concepts in lower case.
    """
    # A typing error of a slot.
    bare = name.strip("{} ")
    if bare in known:
        return f"write {bare}, without braces"
    if close := difflib.get_close_matches(bare.lower(), known, n=1):
        return f"did you mean {close[0]!r}?"

    # A word in place of its slot.
    if bare.lower() in words:
        return "it is a word for a concept, so name the slot concept"
    if holder := _find_holder(bare, attributes):
        return f"it is a value of slot {holder}, or part of one, so name that slot"
    if bare and any(_holds(template, bare) for template in templates):
        return f"write it as a slot, prompts.attributes: {{thing: [{bare}]}} and {{thing}} in a template"
    return "no template holds it, so no image could show it"


def _find_holder(name: str, attributes: Mapping[str, Collection[str]]) -> str | None:
    """Return the slot with `name` among its values, or else inside one of them; None if there is none."""
    exact = [slot for slot, values in attributes.items() if name.lower() in {value.lower() for value in values}]
    part = [slot for slot, values in attributes.items() if name and any(_holds(value, name) for value in values)]
    return next(iter([*exact, *part]), None)


def _holds(text: str, words: str) -> bool:
    """Return whether a text contains `words` as whole words, in any case."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None


def refuse_value(slot: str, value: str, thing: bool, is_concept: bool) -> str | None:
    """Return why a value of a masked slot cannot be a category of the masks, or None if it can."""
    if value.lower() == BACKGROUND:
        return f"slot {slot} holds {value!r}, which is the name of a mask's value 0; use another word"
    if is_concept and not thing:
        return (
            f"slot {slot} is stuff and holds {value!r}, which is a concept, so a thing; leave the value out, or make "
            "the slot one of annotation.things"
        )
    return None
