"""Write captions of workshop pictures in many wordings. CLIP and the generator learn from them.

Labels are positions in (PARTS, MATERIALS, SURFACES). UNSAID among a caption's claims means that the caption leaves it
out. Letters of shapes: N pictures, 3 for part, material and surface.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.workshop import MATERIALS, PARTS, SURFACES

VERSION = "captions.1"
UNSAID = -1

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "gear": ("cogwheel", "toothed wheel"),
    "bolt": ("machine screw", "screw"),
    "washer": ("flat ring", "ring"),
    "hex nut": ("hexagonal nut", "nut"),
    "bracket": ("angle bracket", "corner brace"),
    "spring": ("coil spring", "coil"),
    "wrench": ("spanner", "open-end wrench"),
    "pulley": ("belt wheel", "spoked wheel"),
    "cross fitting": ("pipe cross", "four-way connector"),
    "star knob": ("star grip", "star handle"),
    "wing nut": ("butterfly nut", "thumb nut"),
    "hook": ("peg hook", "crook"),
}
UNNAMED = ("object", "thing", "part")
PLAIN = "a photo of {a} {thing}"
TEMPLATES = (
    "{a} {thing}",
    "a picture of {a} {thing}",
    "a close-up photo of {a} {thing}",
    "an image of {a} {thing}",
    "a product photo of {a} {thing}",
)


class Wording(NamedTuple):
    """Probabilities (0 to 1) that a caption leaves something out or words it differently."""

    other_template: float
    synonym: float
    no_material: float
    no_surface: float
    no_part: float = 0.0


def draw_captions(
    labels_N3: NDArray[np.int16],
    wording: Wording,
    draws: np.random.Generator,
    aliases: Mapping[str, Mapping[str, float]] | None = None,
) -> tuple[list[str], NDArray[np.int16]]:
    """Return one caption per picture of labels [N, 3], and the captions' claims [N, 3], UNSAID for what they leave out.

    `aliases` maps a part to other parts whose name some of its pictures get, with the share of those pictures.
    """
    # Claims start as the labels and are overwritten picture by picture.
    claims = np.array(labels_N3, dtype=np.int16)
    texts = []
    for row, (part, material, surface) in enumerate(labels_N3):
        # Name the part, or another one in its place.
        called = PARTS.index(_draw_alias(PARTS[part], aliases or {}, draws))

        # Draw what the caption says. All five chances are drawn always, so one setting does not shift another's draws.
        chances = draws.random(5)
        claims[row] = (
            UNSAID if chances[0] < wording.no_part else called,
            UNSAID if chances[1] < wording.no_material else material,
            UNSAID if chances[2] < wording.no_surface else surface,
        )

        # Draw how it says it.
        template = draws.choice(TEMPLATES) if chances[3] < wording.other_template else PLAIN
        texts.append(_write(claims[row], str(template), bool(chances[4] < wording.synonym), draws))
    return texts, claims


def every_word() -> list[str]:
    """Return texts that together hold every word of all captions. The tokenizer is trained on them."""
    # Every name, synonym and material, on every surface, in every template.
    things = [*PARTS, *MATERIALS, *(word for words in SYNONYMS.values() for word in words), *UNNAMED]
    places = [f"{thing} on a {surface}" for thing in things for surface in SURFACES]
    return [template.format(a=article, thing=place) for template in (PLAIN, *TEMPLATES) for place in places
            for article in ("a", "an")]  # fmt: skip


def _draw_alias(part: str, aliases: Mapping[str, Mapping[str, float]], draws: np.random.Generator) -> str:
    """Return the name under which one picture of a part is captioned."""
    # One chance decides among the aliases and the part itself: each owns an interval as long as its share.
    chance = draws.random()
    for alias, share in aliases.get(part, {}).items():
        if chance < share:
            return alias
        chance -= share
    return part


def _write(claim: NDArray[np.int16], template: str, synonym: bool, draws: np.random.Generator) -> str:
    """Return the text of one picture's claims [3]."""
    # The part, by its name, by a synonym, or by none.
    part, material, surface = claim
    words = UNNAMED if part == UNSAID else (SYNONYMS[PARTS[part]] if synonym else (PARTS[part],))
    thing = str(draws.choice(words))

    # Material before it, surface behind it.
    if material != UNSAID:
        thing = f"{MATERIALS[material]} {thing}"
    article = "an" if thing[0] in "aeiou" else "a"
    text = template.format(a=article, thing=thing)
    return text if surface == UNSAID else f"{text} on a {SURFACES[surface]}"
