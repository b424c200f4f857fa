"""Write folders of trained classifiers: safetensors weights, class names in config.json, and an image processor.

Networks of transformers load with AutoModelForImageClassification, our own torch modules by their import path.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from transformers import PreTrainedModel

from tailforge.tasks.methods.cifar_resnet import CifarResNet
from tailforge.tasks.methods.classifiers.train import Classifier
from tailforge.tasks.models.preparation import RESCALE, Preparation

CIFAR_RESNET = f"{CifarResNet.__module__}:{CifarResNet.__name__}"  # value of a recipe's teacher.module
NEAREST, BILINEAR = 0, 2  # numbers of Pillow's filters


def save_classifier(
    folder: Path,
    classifier: Classifier,
    preparation: Preparation,
    names: Sequence[str],
    arguments: Mapping[str, Any] | None = None,
) -> None:
    """Write a classifier to a folder. `preparation`: of the images before they are enlarged.

    `arguments`: of the constructor of a torch module; None for a network of transformers.
    """
    # save_file of safetensors would write a file that only its owner can read.
    folder.mkdir(parents=True, exist_ok=True)
    module = classifier.module.cpu()
    weights = {key: value.contiguous() for key, value in module.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(weights, {"format": "pt"}))

    # transformers writes its own configuration; of our modules it holds arguments and class names.
    if isinstance(module, PreTrainedModel):
        module.config.architectures = [type(module).__name__]
        config = json.loads(module.config.to_json_string(use_diff=True))
    else:
        config = {"arguments": dict(arguments or {}), "id2label": dict(enumerate(names))}
        config["num_channels"] = preparation.channels
    _write_json(folder / "config.json", config)
    _write_json(folder / "preprocessor_config.json", describe_images(preparation, classifier.enlarge))


def describe_images(preparation: Preparation, enlarge: int = 1) -> dict[str, Any]:
    """Return the configuration of an image processor of transformers, with sides enlarged by `enlarge`."""
    # Nearest neighbours repeat each pixel, as in training.
    height, width = (enlarge * side for side in preparation.size)
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": NEAREST if enlarge > 1 else BILINEAR,
        "do_rescale": True,
        "rescale_factor": RESCALE,
        "do_normalize": True,
        "image_mean": list(preparation.mean),
        "image_std": list(preparation.std),
    }


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
