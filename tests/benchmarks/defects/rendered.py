"""Defects whose exact place is known: a render with the defect stands for a perfect drawing.

The generator's autoencoder makes the drawing of it, and the engine's own functions put it back and label it. So the
truth is known without the drawing: the pixels in which the two renders differ visibly.
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy import ndimage

from tailforge.schemas.settings.annotation import Annotation
from tailforge.schemas.settings.inpaint import InpaintEngine
from tailforge.tasks.methods.inpainting.change import label_change, measure_change
from tailforge.tasks.methods.inpainting.render import Layout
from tailforge.tasks.methods.inpainting.windows import Window, soften_edge
from tailforge.tasks.methods.sampling.pixels import to_pixels, to_tensor
from tailforge.tasks.methods.workshop import BALANCED, DEFECTS, Scene, render, sample_scene
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator
from tests.benchmarks.defects.accuracy import Mask, Pixels, Published, differ_visibly

MARGINS = 5  # regions reach 1 to so many pixels beyond the defect
FEATHER = InpaintEngine.model_fields["feather"].default
MIN_CHANGE = InpaintEngine.model_fields["min_change"].default


def draw_rendered(model: DiffusersGenerator, seed: int, each: int) -> Iterator[Published]:
    """Yield `each` pictures of every defect; those in which the defect does not show are left out."""
    for kind, materials in DEFECTS.items():
        for number in range(each):
            scene = sample_scene(number, seed, BALANCED)
            material = materials[number % len(materials)]
            good, bad = (render(Scene(scene.part, material, scene.surface, scene.seed, own)) for own in (None, kind))
            region = ndimage.binary_dilation(bad.defect, iterations=1 + number % MARGINS)
            exact = differ_visibly(bad.image, good.image) & region
            if exact.any():
                yield _publish(model, good.image, bad.image, region, exact)


def _publish(model: DiffusersGenerator, photograph: Pixels, drawing: Pixels, region: Mask, exact: Mask) -> Published:
    """Put a drawing [H, W, 3] into the region [H, W] of a photograph [H, W, 3] as the engine does, and label it."""
    height, width = region.shape
    layout = Layout(photograph, [region], Window(0, 0, height, width), photograph, (0, 0, height, width), {})
    edges, settings = soften_edge([region], FEATHER), Annotation()
    image, _ = layout.put_back(_pass_autoencoder(model, drawing), _pass_autoencoder(model, photograph), edges)

    # The label, with the settings that a recipe has by default.
    change = measure_change(photograph, image, [region])
    found = label_change(change, [region], MIN_CHANGE, settings.min_component, settings.max_hole)
    mask = np.any([np.zeros_like(region), *found.components], axis=0)
    return Published(image, mask, photograph, region, exact)


@torch.inference_mode()
def _pass_autoencoder(model: DiffusersGenerator, image: Pixels) -> Pixels:
    """Return an image [H, W, 3], encoded and decoded."""
    decoded: Pixels = to_pixels(model.decode(model.encode(to_tensor(image[None]))).float())[0]
    return decoded
