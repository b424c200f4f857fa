"""Import albumentations, which an extra installs, when images are to be changed. No other module imports it.

2.0.8 is its last release under the MIT licence and gets no more corrections. Its successor is under the AGPL and has
the same import name. Tests of three modules define what a replacement has to do: packing/test_augment.py,
pretraining/test_views.py and, for `Views`, classifiers/test_train.py, all in tests/tasks/methods.
"""

import os
from typing import Any

from tailforge.schemas.extras import import_extra

LIBRARY = "albumentations"


def load_transforms(purpose: str) -> Any:
    """Return the module albumentations. Errors: MissingExtraError, which begins with the `purpose`, without it."""
    # Without this variable the import looks for newer versions on the network.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    return import_extra(LIBRARY, purpose)
