"""Libraries that come with an extra: imported where they are used, so that all else runs without them."""

import importlib
from typing import Any

from tailforge.schemas.errors import MissingExtraError

# Import name: extra of pyproject.toml. What is not here comes with `build`, or is always there.
EXTRAS = {
    "albumentations": "augment",
    "tensorboard": "tensorboard",
    "torch.utils.tensorboard": "tensorboard",
    "ray": "ray",
    "prefect_ray": "ray",
    "s3fs": "s3",
}


def name_extra(module: str) -> str:
    """The extra that brings a foreign module."""
    return EXTRAS.get(module.partition(".")[0], "build")


def how_to_install(extra: str) -> str:
    """What an error says at its end."""
    return f"install the extra: pip install 'tailforge[{extra}]'"


def import_extra(module: str, purpose: str) -> Any:
    """The module, for which `purpose` stands at the beginning of the error. Errors: MissingExtraError."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {module}, which cannot be imported ({error}); {how_to_install(EXTRAS[module])}"
        ) from error
