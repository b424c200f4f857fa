"""Find whether a generator knows the rare classes by name. Then a search does without adapting it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.pictures import PHOTOGRAPHS, open_picture, show_rgb
from tailforge.catalog.sources.references import FEWEST
from tailforge.flows.photographs.generator_text import TEMPLATE, locate_source
from tailforge.flows.photographs.inspect import Inspection
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.settings.fields import ModelSource
from tailforge.tasks.models.generator_files import is_trainable

CLIP = "clip"  # folder of a pipeline with the whole CLIP model whose text tower reads its prompts
OTHERS = ("object", "animal", "plant", "person", "building", "vehicle")  # rivals of an unknown name; our choice
KNOWN = 0.5  # least share of a class's references that CLIP reads by the class's name; our choice


@dataclass(frozen=True)
class Search:
    """A search of a generator's noise for images like the references.

    `encoder`: the CLIP model that compares them. `read`, `shown`: references per rare concept that it reads by the
    concept's name, and all.
    """

    encoder: ModelSource
    read: Mapping[str, int]
    shown: Mapping[str, int]

    def describe(self) -> str:
        """Return why the generator is searched and not adapted, in one sentence."""
        read, shown = sum(self.read.values()), sum(self.shown.values())
        return f"the generator's CLIP reads {read} of {shown} references by their class's name"


def find_search(given: ModelSource | None, inspection: Inspection) -> Search | None:
    """Return the search of a named generator that knows all rare classes; None for one that should be adapted.

    The generator knows a class if its CLIP reads at least half of the references by the name of the class. Without CLIP
    in its folder, without a UNet, or with fewer references than a search takes, it is adapted.
    Errors: ModelError for a damaged CLIP model.
    """
    found = None if given is None else locate_source(given)
    if given is None or found is None or not (Path(found.path) / CLIP).is_dir() or not is_trainable(found):
        return None
    shown = {each.name: len(inspection.references.get(each.name, ())) for each in inspection.tail.rare}
    if min(shown.values()) < FEWEST:
        return None

    # A name that CLIP reads into few of the references says nothing to the generator.
    read = count_read(found, inspection)
    if any(read[name] < KNOWN * shown[name] for name in shown):
        return None
    return Search(given.model_copy(update={"subfolder": CLIP}), read, shown)


def count_read(generator: ResolvedModel, inspection: Inspection) -> dict[str, int]:
    """Return how many references of each rare concept the generator's CLIP reads by the concept's name.

    The nearest name counts, out of all classes and `OTHERS` (zero-shot, arXiv 2103.00020). Errors: ModelError.
    """
    from tailforge.tasks.models.clip import load_clip
    from tailforge.tasks.models.kinds import check_scorer

    # Unit vectors of the names [N, D].
    model = generator.model_copy(update={"subfolder": CLIP, "digest": f"{generator.path}/{CLIP}"})
    check_scorer(model)
    clip = load_clip(model)
    names = list(dict.fromkeys([*(each.name for each in inspection.tail.classes), *OTHERS]))
    texts = clip.embed_texts([TEMPLATE.format(concept=name) for name in names])

    # The nearest name of each reference [M, D].
    read = {}
    for name in (each.name for each in inspection.tail.rare):
        vectors = clip.embed_images([_open(inspection, place) for place in inspection.references[name]])
        read[name] = int(((vectors @ texts.T).argmax(axis=1) == names.index(name)).sum())
    return read


def _open(inspection: Inspection, place: int) -> NDArray[np.uint8]:
    """Return a photograph as RGB, uint8 [height, width, 3]."""
    return np.asarray(open_picture(inspection.images.read(place), PHOTOGRAPHS, show_rgb))
