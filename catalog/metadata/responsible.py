"""Fields of Croissant's vocabulary for responsible AI: how images were made, labelled and chosen.

The names are those of Croissant RAI 1.0 (https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html) and
`rai:hasSyntheticData`, which the NeurIPS track on data sets asks for in addition. The sentences are our own.
"""

from typing import Any

from tailforge.schemas.dataset import Dataset
from tailforge.schemas.settings.engine_settings import EngineSettings
from tailforge.schemas.settings.engines import find_settings

CONFORMS_TO = "http://mlcommons.org/croissant/RAI/1.0"
MASKS = {
    "cross_attention": "the generator's attention to the words, recorded while it drew",
    "class_activation": "the classifier's maps of class activation",
    "renoised_attention": "a text-to-image model's attention to the words, in one pass over the finished image",
    "changed_region": "the visible change of the photograph in the drawn regions",
}


def describe_responsibly(dataset: Dataset) -> dict[str, Any]:
    """Return the fields on collection, annotation and selection of a version's images."""
    engine, quality = dataset.recipe["engine"]["kind"], dataset.recipe.get("quality") or {}
    masks = (dataset.recipe.get("annotation") or {}).get("kind", "cross_attention")
    gates = sorted(quality.get("gates") or {})
    chosen = f"Images had to pass these gates: {', '.join(gates)}." if gates else "No gate chose among the images."

    return {
        "rai:hasSyntheticData": True,
        "rai:dataCollection": f"{_tell_source(engine)} Engine of the recipe: {engine}.",
        "rai:dataCollectionType": ["Others"],
        "rai:dataPreprocessingProtocol": f"{chosen} rejects.parquet lists what was left out, and why.",
        "rai:dataAnnotationProtocol": "Class and caption are those that an image was requested with. Masks and boxes "
        f"come from {MASKS.get(masks, masks)}. No person drew them.",
        "rai:machineAnnotationTools": [f"Tailforge, {masks}"],
    }


def _tell_source(engine: str) -> str:
    """Return the sentence on where images come from; of an unknown engine that of the base."""
    settings = find_settings(engine) or EngineSettings
    if not settings.follows_sources:
        return "No image was collected: a model drew all of them."
    drawn = "A model drew regions" if settings.needs_generator else "Regions were drawn without a model"
    return f"{drawn} into photographs. Pixels outside the regions are the photograph's own."
