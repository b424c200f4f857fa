"""albumentations, imported here alone and only when images are to be changed: it comes with an extra.

2.0.8 is its last MIT release and gets no more repairs; its successor is AGPL and has the same import name. What another
library would have to do is held by the tests of the three modules that use it: packing/test_augment.py,
pretraining/test_views.py and, for `Views`, classifiers/test_train.py, all in tests/tasks/methods.
"""

import os
from typing import Any

from tailforge.schemas.extras import import_extra

LIBRARY = "albumentations"


def load_transforms(purpose: str) -> Any:
    """The module; `purpose` stands at the beginning of the error. Errors: MissingExtraError."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks the network for newer versions
    return import_extra(LIBRARY, purpose)
