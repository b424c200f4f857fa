"""Render the workshop, a world of machine parts with known captions and exact masks, with numpy only.

`render(sample_scene(index, seed, LONG_TAIL))` is picture `index` of an endless data set.
"""

from tailforge.tasks.methods.workshop.render import PairRendering, Rendering, render, render_pair
from tailforge.tasks.methods.workshop.scenes import (
    BALANCED,
    DEFECTS,
    HEAD_PARTS,
    LONG_TAIL,
    MATERIALS,
    PARTS,
    SURFACES,
    TAIL_PARTS,
    Pair,
    Scene,
    caption,
    sample_pair,
    sample_scene,
    sample_twins,
)

__all__ = [
    "BALANCED",
    "DEFECTS",
    "HEAD_PARTS",
    "LONG_TAIL",
    "MATERIALS",
    "PARTS",
    "SURFACES",
    "TAIL_PARTS",
    "Pair",
    "PairRendering",
    "Rendering",
    "Scene",
    "caption",
    "render",
    "render_pair",
    "sample_pair",
    "sample_scene",
    "sample_twins",
]
