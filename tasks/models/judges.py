"""Load and save the independent judges: safetensors weights, and a config.json with their widths."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tailforge.schemas.documents.foreign_json import parse_object
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import ModelError
from tailforge.tasks.methods.embedded.judges import (
    Classifier,
    Segmenter,
    build_classifier,
    build_segmenter,
    classify,
    segment,
)

ROLES = ("classifier", "segmenter")


@dataclass(frozen=True)
class Judges:
    """Both judges, frozen, for pictures uint8 [N, 64, 64, 3]."""

    classifier: Classifier
    segmenter: Segmenter

    def classify(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return positions [N, 3] in the workshop's PARTS, MATERIALS and SURFACES for pictures [N, 64, 64, 3]."""
        return classify(self.classifier, images)

    def segment(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return the masks [N, 64, 64] of the part in pictures [N, 64, 64, 3]."""
        return segment(self.segmenter, images)


def save_judge(folder: Path, role: str, model: nn.Module, width: int) -> None:
    """Write a judge's weights to `role`.safetensors and its width to config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / f"{role}.safetensors")
    config = folder / "config.json"
    widths = json.loads(config.read_text()) if config.exists() else {}
    config.write_text(json.dumps(widths | {role: {"width": width}}, indent=1, sort_keys=True) + "\n")


def load_judges(folder: Path) -> Judges:
    """Load both judges of a folder, frozen. Errors: ModelError that names the missing or damaged file."""
    # The widths decide the shapes of the weights.
    try:
        config = parse_object((folder / "config.json").read_bytes())
        classifier = build_classifier(config["classifier"]["width"])
        segmenter = build_segmenter(config["segmenter"]["width"])
        for role, model in zip(ROLES, (classifier, segmenter), strict=True):
            model.load_state_dict(load_file(folder / f"{role}.safetensors"))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        file = f"{Path(error.filename).name}: " if isinstance(error, OSError) and error.filename else ""
        raise ModelError(
            f"judges in {folder} cannot be loaded: {file}{describe_failure(error)}; "
            "restore the folder or train them again with `tailforge train`"
        ) from error

    classifier.eval().requires_grad_(False)
    segmenter.eval().requires_grad_(False)
    return Judges(classifier, segmenter)
