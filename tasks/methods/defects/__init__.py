"""Draw defects into photographs without a generator: copies of real ones, patches of the photograph, textured noise.

Every function takes a photograph [H, W, 3], a region [H, W] and a seed, and returns a `Drawn`: the image, and the mask
of what really changed. Outside the region every pixel stays as it was.
"""

from tailforge.tasks.methods.defects.copy_paste import copy_paste, paste
from tailforge.tasks.methods.defects.cut_paste import cut_paste
from tailforge.tasks.methods.defects.drawn import Drawn
from tailforge.tasks.methods.defects.moves import Placed, Reference, place_defects
from tailforge.tasks.methods.defects.noise_texture import noise_texture

__all__ = ["Drawn", "Placed", "Reference", "copy_paste", "cut_paste", "noise_texture", "paste", "place_defects"]
