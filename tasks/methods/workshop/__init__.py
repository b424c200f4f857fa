"""Render the workshop, a world of machine parts with known captions and exact masks, with numpy only.

`render(sample_scene(index, seed, LONG_TAIL))` is picture `index` of an endless data set.
"""

from tailforge.tasks.methods.workshop.render import Rendering, render
from tailforge.tasks.methods.workshop.scenes import (
    BALANCED,
    HEAD_PARTS,
    LONG_TAIL,
    MATERIALS,
    PARTS,
    SURFACES,
    TAIL_PARTS,
    Scene,
    caption,
    sample_scene,
)

__all__ = [
    "BALANCED",
    "HEAD_PARTS",
    "LONG_TAIL",
    "MATERIALS",
    "PARTS",
    "SURFACES",
    "TAIL_PARTS",
    "Rendering",
    "Scene",
    "caption",
    "render",
    "sample_scene",
]
