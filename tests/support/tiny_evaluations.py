"""Ask for evaluations of tiny shapes, and write their pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tailforge.flows.training.evaluation_inputs import Request, parse_settings
from tests.support.tiny_shapes import FEW_STEPS


def ask(place: Path, reference: str, real: Path | None = None, **changes: Any) -> Request:
    """Return the request for a version in `place`, whose folder `real` is evaluated on by default."""
    settings = parse_settings(FEW_STEPS | changes.pop("settings", {}))
    return Request(reference, str(place / "store"), str(real or place / "real"), settings, **changes)


def save(pixels: Any, path: Path, **options: Any) -> None:
    """Write a picture, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)
