"""Define what options of commands share with settings. Without pydantic, so that help answers at once."""

from typing import Literal

Fit = Literal["exact", "crop", "pad", "stretch"]
FIT = (
    "For images of another size. exact: refuse them. crop: scale to cover the size and keep the middle. pad: scale to "
    "fit in, with black around. stretch: scale both sides on their own."
)

ROOT = (
    "Folder that paths in a table or COCO file of images are relative to, and that none of them may leave; by default "
    "the file's own folder."
)

MOST_WORKERS = 4096
