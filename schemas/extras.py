"""Import libraries of extras, and modules that need them, where they are used, so that all else runs without them."""

import importlib
import threading
from collections.abc import Callable
from typing import Any

from tailforge.schemas.errors import MissingExtraError

# Extra of pyproject.toml by import name. Other libraries belong to `build` or to the base installation.
EXTRAS = {
    "albumentations": "augment",
    "cv2": "augment",
    "tensorboard": "tensorboard",
    "torch.utils.tensorboard": "tensorboard",
    "ray": "ray",
    "prefect_ray": "ray",
    "s3fs": "s3",
    "huggingface_hub": "hub",
}

# transformers and diffusers look their classes up while they are imported, and fail if two threads do so at once.
_importing = threading.RLock()


def name_extra(module: str) -> str:
    """Return the extra that installs a module."""
    return EXTRAS.get(module.partition(".")[0], "build")


def how_to_install(extra: str) -> str:
    """Return the advice at the end of an error about a missing extra."""
    return f"install the extra: pip install 'tailforge[{extra}]'"


def import_extra(module: str, purpose: str) -> Any:
    """Return a module of an extra. `purpose` begins the error's text. Errors: MissingExtraError."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {module}, which cannot be imported ({error}); {how_to_install(EXTRAS[module])}"
        ) from error


def when_called(module: str, function: str) -> Callable[..., Any]:
    """Return a function that imports a module of `tailforge` at its first call and calls a function of it.

    So a build is planned without the libraries that only its work needs. One thread imports at a time. Errors: of the
    call, those of the import and of the function.
    """

    def call(*given: Any, **named: Any) -> Any:
        """Import the module and call its function."""
        with _importing:
            imported = importlib.import_module(f"tailforge.{module}")
        return getattr(imported, function)(*given, **named)

    return call
