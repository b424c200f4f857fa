"""Augment accepted samples with albumentations: one pipeline changes image, class mask and instance masks together.

All randomness of a call comes from one seed.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.settings.output import Augmentation, Transform
from tailforge.tasks.methods.masks.codec import IGNORE, bound_region, encode_rle
from tailforge.tasks.methods.packing.transforms import LIBRARY, load_transforms
from tailforge.tasks.methods.planning.samples import derive_seed

PURPOSE = "the augmentation of a recipe"
TARGETS = {"image", "mask", "masks"}  # inputs that a transform may read
NOT_FROM_RECIPES = ("Lambda", "TextImage")  # they run code of the recipe, and read any font file
UNFIT = "needs more than an image and its masks, or is not for recipes; choose another transform"
OURS = ("mask_interpolation",)  # masks hold classes, so their interpolation is always nearest neighbour
LONG = 64  # longer arrays and lists of drawn parameters are recorded by their digest; the seed draws them again

Pixels = NDArray[np.uint8]
Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Augmented:
    """An augmented image, its mask and its regions; `replay` holds the drawn parameters as plain JSON values."""

    image: Pixels  # [height, width, 3]
    mask: Mask  # [height, width]
    regions: list[NDArray[np.bool_]]  # [height, width] each
    replay: dict[str, Any]


def build_pipeline(augmentation: Augmentation) -> Any:
    """Return the recipe's transforms, in order, as an albumentations pipeline.

    One thread may use a pipeline at a time, because it holds random state. Errors: RecipeError for an unknown or unfit
    transform, an unknown parameter or an impossible value; MissingExtraError without albumentations.
    """
    # ReplayCompose records the parameters that each transform draws.
    A = load_transforms(PURPOSE)
    built = [_build_transform(A, place, transform) for place, transform in enumerate(augmentation.transforms)]
    return A.ReplayCompose(built)


def augment(
    pipeline: Any, image: Pixels, mask: Mask, seed: int, regions: Sequence[NDArray[np.bool_]] = ()
) -> Augmented:
    """Run the pipeline once on an image [height, width, 3], its mask [height, width] and its regions [height, width].

    The outcome may have another size. Errors: RecipeError if a transform cannot process this image, or if the outcome
    is not an 8-bit RGB image with the classes of the mask.
    """
    # One seed per transform: a common seed would couple their draws.
    for place, transform in enumerate(pipeline.transforms):
        transform.set_random_seed(derive_seed(str(seed), f"transform:{place}"))
    pipeline.py_random.seed(seed)

    # One call draws once for image, mask and regions.
    own = {"masks": [region.astype(np.uint8) for region in regions]} if regions else {}
    try:
        made = pipeline(image=image, mask=mask, **own)
    except Exception as error:  # each transform raises its own classes for images that it cannot process
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise RecipeError(
            f"augmentation cannot process an image of {size} pixels: {error}; change its parameters"
        ) from error
    _check_outcome(made["image"], made["mask"], mask)

    # Record which transforms applied, and with which parameters.
    replay = {
        LIBRARY: load_transforms(PURPOSE).__version__,
        "seed": seed,
        "transforms": [
            {
                "name": entry["__class_fullname__"].rsplit(".", 1)[-1],
                "applied": entry["applied"],
                "parameters": _plain(entry["params"] or {}),
            }
            for entry in made["replay"]["transforms"]
        ],
    }
    regions = [np.asarray(region, np.bool_) for region in made["masks"]] if regions else []
    return Augmented(np.ascontiguousarray(made["image"]), np.ascontiguousarray(made["mask"]), list(regions), replay)


def augment_instances(
    instances: Sequence[Mapping[str, Any]], regions: Sequence[NDArray[np.bool_]]
) -> list[dict[str, Any]]:
    """Return rows of INSTANCES with box, area and run lengths of their new regions [height, width].

    An instance that left the image is dropped.
    """
    return [
        {**instance, "bbox": bound_region(region), "area": int(region.sum()), "rle": encode_rle(region)}
        for instance, region in zip(instances, regions, strict=True)
        if region.any()
    ]


def instance_regions(instances: Sequence[Mapping[str, Any]], mask: Mask) -> list[NDArray[np.bool_]]:
    """Return the region [height, width] of each row of INSTANCES, in the size of their image's `mask`."""
    return [decode_rle(instance["rle"], *mask.shape) for instance in instances]


def _build_transform(A: Any, place: int, transform: Transform) -> Any:
    # The name must be a transform of images and masks that reads nothing else.
    bases, volumes = (A.ImageOnlyTransform, A.DualTransform), A.Transform3D
    field = f"augmentation.transforms.{place}"
    kind = getattr(A, transform.name, None)
    if not inspect.isclass(kind) or not issubclass(kind, bases) or kind in (*bases, volumes):
        raise RecipeError(
            f"{field}.name: {transform.name!r} is not a transform of images and masks in albumentations {A.__version__}"
        )
    if issubclass(kind, volumes) or "BBox" in transform.name or transform.name in NOT_FROM_RECIPES:
        raise RecipeError(f"{field}.name: {transform.name} {UNFIT}")

    # The parameters must exist, and the library must accept their values.
    known = [name for name in inspect.signature(kind).parameters if name not in OURS]
    if unknown := sorted(set(transform.parameters) - set(known)):
        raise RecipeError(
            f"{field}.parameters: {transform.name} has no parameter {unknown[0]!r} for a recipe; "
            f"it has: {', '.join(known)}"
        )
    try:
        built: Any = kind(**transform.parameters)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{field}.parameters: {transform.name} refuses them: {error}") from error

    # Some transforms name further inputs only once they are built.
    if set(built.targets_as_params) - TARGETS:
        raise RecipeError(f"{field}.name: {transform.name} {UNFIT}")
    return built


def _check_outcome(image: Any, mask: Any, before: Mask) -> None:
    # Shards hold 8-bit RGB images.
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise RecipeError(
            f"augmentation turns images into {image.dtype} {list(image.shape)}; a dataset holds 8-bit RGB: leave out "
            "transforms that normalise or change the number of channels"
        )

    # Background and ignored pixels may appear, new classes may not.
    foreign = sorted(
        {int(value) for value in np.unique(mask)} - {int(value) for value in np.unique(before)} - {0, IGNORE}
    )
    if mask.shape != image.shape[:2] or foreign:
        found = f"classes {foreign}" if foreign else f"a mask of {list(mask.shape)} for an image of {list(image.shape)}"
        raise RecipeError(f"augmentation makes {found}, unlike the mask before; change fill_mask or the transform")


def _plain(value: Any) -> Any:
    """Return drawn parameters as JSON values. Arrays and lists longer than LONG become length and digest."""
    # `shape` is the input's size, and no draw.
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items() if key != "shape"}
    if isinstance(value, np.ndarray) and value.size > LONG:
        return {"shape": list(value.shape), "dtype": str(value.dtype), "sha256": _digest(value.tobytes())}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        plain = [_plain(entry) for entry in value]
        return plain if len(plain) <= LONG else {"length": len(plain), "sha256": _digest(json.dumps(plain).encode())}

    # JSON has no infinity and no NaN, so these become text, as do objects.
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
