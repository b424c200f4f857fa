"""Find gates that every image passes, words that no prompt uses, and settings of files that are not written."""

from collections.abc import Iterator, Mapping

from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.fields import look
from tailforge.schemas.settings.gates import SCORES, Gate
from tailforge.schemas.settings.prompts import SLOT


def find_idle_gates(recipe: Recipe) -> Iterator[str]:
    """Yield a line per gate that no image could fail, or none could pass."""
    if "concept_margin" in recipe.quality.gates and len(recipe.concepts) < 2:
        yield (
            "quality.gates.concept_margin compares with the recipe's other concepts, and there is no other, so every "
            "image would pass; leave it out, or use clip_score"
        )
    for name, gate in recipe.quality.gates.items():
        if problem := _judge_gate(gate, SCORES[name].least, SCORES[name].greatest):
            yield f"quality.gates.{name}: {problem}"


def _judge_gate(gate: Gate, least: float, greatest: float) -> str | None:
    """Return the problem of a gate for a score in least..greatest, or None."""
    given = {name: value for name in ("min", "max", "min_quantile", "max_quantile")
             if (value := getattr(gate, name)) is not None}  # fmt: skip
    if not given:
        return "no bound is given; give min, max, min_quantile or max_quantile, or leave it out"

    idle = {"min": least, "max": greatest, "min_quantile": 0.0, "max_quantile": 1.0}
    for name, value in given.items():
        if value <= idle[name] if name.startswith("min") else value >= idle[name]:
            return f"{name} {value:g} lets every image through; give another bound, or leave it out"
    if given.get("min", least) > greatest or given.get("max", greatest) < least:
        return f"the score is between {least:g} and {greatest:g}, so no image could pass; give a bound in between"
    return None


def find_idle_words(recipe: Recipe) -> Iterator[str]:
    """Yield a line per setting of templates, attributes, weights and synonyms that changes no prompt."""
    prompts = recipe.prompts
    if "templates" in prompts.model_fields_set and all(each.templates is not None for each in recipe.concepts):
        yield "prompts.templates has no effect, since every concept has templates of its own; leave it out"

    # Attributes without a slot in a template, and weights that balance ignores.
    used = {slot for template in recipe.used_templates for slot in SLOT.findall(template)}
    for name, values in prompts.attributes.items():
        if name not in used:
            yield f"prompts.attributes.{name} has no effect, since no template holds {{{name}}}; use it or leave it out"
        elif prompts.balance == "balanced" and isinstance(values, Mapping) and len(set(values.values())) > 1:
            yield (
                f"prompts.attributes.{name}: the weights have no effect with prompts.balance balanced; set balance: "
                "weighted, or give a list"
            )

    # Synonyms of no concept.
    known = {look(concept.name) for concept in recipe.concepts}
    for name in prompts.lexicon:
        if look(name) not in known:
            yield f"prompts.lexicon: {name!r:.80} is no concept, so its words have no effect; leave it out"


def find_idle_files(recipe: Recipe) -> Iterator[str]:
    """Yield a line per setting of files that are not written."""
    if "jpeg_quality" in recipe.sharding.model_fields_set and recipe.sharding.image_format != "jpg":
        yield "sharding.jpeg_quality has no effect with image_format png; leave it out, or set image_format: jpg"
