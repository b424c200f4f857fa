"""Explain one sample of a version: which components drew which region, and how to repair a bad region."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from tailforge.catalog.metadata.repairs import forget_repair, record_repair
from tailforge.catalog.pictures import PHOTOGRAPHS, open_picture, to_rgb
from tailforge.catalog.reading.open_dataset import WHOLE, open_dataset
from tailforge.catalog.registry import DATASETS
from tailforge.catalog.store import Store
from tailforge.catalog.user_paths import usable_path
from tailforge.flows.build.choose import split_reference
from tailforge.flows.samples.published_recipe import parse_published
from tailforge.flows.samples.remake import Published, find_published, remake_sample
from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import EngineError, ExplanationError, PictureError
from tailforge.schemas.explanation import Bound, ExplainSettings, Region, RepairRecord
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.settings.gates import GATES
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.methods.masks.codec import encode_rle
from tailforge.tasks.methods.regional_primitives.defects import PIXEL_MEASURES, blame_patches
from tailforge.tasks.methods.regional_primitives.demands import Observe
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid
from tailforge.tasks.methods.regional_primitives.trace import box_region, mask_region
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.stages import explanations
from tailforge.tasks.stages import repairs as mending
from tailforge.tasks.stages.explanations import ExplainRequest

CONCEPT = "concept"  # --mask concept: the sample's own mask
TOLD = 5  # components shown to a person
BACKGROUND_READ = 4  # read at most this many images per background image


def explain_sample(
    sample_id: str,
    reference: str,
    uri: str,
    settings: ExplainSettings,
    folder: Path | None = None,
    *,
    box: tuple[int, int, int, int] | None = None,
    mask: str | None = None,
    gate: str | None = None,
    repair: bool = False,
    observe: Observe = lambda done, total: None,
) -> dict[str, Any]:
    """Decompose a sample into components, keep the ledger in the store, and with `repair` repair the region.

    `reference`: dataset or dataset@version; `folder`: as in `remake_sample`. The region is a box (left, top, right,
    bottom), a mask ("concept" or an image file), or what a gate blames. A rejected sample has by default the region
    of the
    gate that rejected it. Errors: NotFoundError, ExplanationError, ModelError; an error keeps nothing.
    """
    found = find_published(sample_id, reference, uri, rejects=True)
    grid = require_drawn(found, settings.grid)
    region = name_region(found, grid, box, mask, gate)
    blamed = gate or (None if region else gate_of_reason(found.row.get("reason")))
    bound = find_bound(found, blamed) if blamed in PIXEL_MEASURES else None
    if repair and region is None and blamed is None:
        raise ExplanationError("--repair needs a region; name it by --box, --mask or --gate")

    job, made = remake_sample(found, folder)
    if made.pixels is None:
        raise EngineError(f"sample {sample_id} fails now: {made.error}; compare library versions with its version's")
    if blamed is not None:
        region = blame_gate(found, grid, made.pixels, blamed, bound)

    request = ExplainRequest(
        job, made, settings, region, read_background(found, made.pixels, settings), found.label, observe
    )
    told = tell_explanation(found.store, request)
    return told | (keep_repair(found, request) if repair else {})


def require_drawn(found: Published, side: int) -> PatchGrid:
    """Return the patches of the sample. Errors: ExplanationError if it has no image or no generator drew it."""
    row = found.row
    kind = "a repair" if found.repair else "an augmented copy" if row["augmentation"] is not None else ""
    if kind:
        raise ExplanationError(f"sample {row['sample_id']} is {kind} of {found.original_id}; explain that one instead")

    if row["width"] is None:
        raise ExplanationError(f"sample {row['sample_id']} has no image: {row.get('error')}; choose another")
    return PatchGrid(side, side, row["height"], row["width"])


def name_region(
    found: Published, grid: PatchGrid, box: tuple[int, int, int, int] | None, mask: str | None, gate: str | None
) -> Region | None:
    """Return the region that a box or a mask names; None without either.

    Errors: ExplanationError for several regions, a region outside the image or an unknown gate.
    """
    named = [name for name, value in (("--box", box), ("--mask", mask), ("--gate", gate)) if value is not None]
    if len(named) > 1:
        raise ExplanationError(f"{' and '.join(named)} each name a region; give one of them")
    if gate is not None and gate not in GATES:
        raise ExplanationError(f"unknown gate {gate!r}; the gates are {', '.join(GATES)}")

    if box is not None:
        return Region(rle=encode_rle(box_region(grid, *box).numpy()), source=f"box {','.join(map(str, box))}")
    if mask == CONCEPT:
        return Region(rle=encode_rle(require_concept(found)), source="the concept's mask")
    if mask is not None:
        return Region(
            rle=encode_rle(mask_region(grid, read_mask(Path(mask))).numpy()), source=f"mask {Path(mask).name}"
        )
    return None


def read_mask(file: Path) -> NDArray[np.bool_]:
    """Return the pixels of a mask file that are not black, bool [H, W]. Errors: ExplanationError."""
    try:
        file = usable_path(file, "--mask", ExplanationError)
        pixels: NDArray[np.bool_] = np.asarray(open_picture(file.read_bytes(), PHOTOGRAPHS, to_rgb)).max(axis=2) > 0
        return pixels
    except (OSError, ValueError, PictureError) as error:
        raise ExplanationError(
            f"--mask {file}: {describe_failure(error)}; give an image of the sample's size, or the word {CONCEPT}"
        ) from error


def concept_mask(found: Published) -> NDArray[np.bool_] | None:
    """Return the mask of the sample's concept, bool [H, W]; None without a mask."""
    row = found.row
    own = [each for each in row["instances"] or () if each["slot"] == CONCEPT]
    regions = [decode_rle(each["rle"], row["height"], row["width"]) for each in own]
    return np.any(regions, axis=0) if regions else None


def require_concept(found: Published) -> NDArray[np.bool_]:
    """Return the mask of the sample's concept. Errors: ExplanationError without a mask."""
    pixels = concept_mask(found)
    if pixels is None or not pixels.any():
        raise ExplanationError(f"sample {found.row['sample_id']} has no mask of its concept; name the region by --box")
    return pixels


def gate_of_reason(reason: str | None) -> str | None:
    """Return the gate of a rejection reason; None if no gate rejected the sample."""
    name = (reason or "").rpartition("_")[0]
    return name if name in GATES else None


def find_bound(found: Published, gate: str) -> Bound:
    """Return the bound that the sample missed or, if accepted, might miss. Errors: ExplanationError without one."""
    quality = parse_published(found.dataset).quality
    known, reason = quality.gates.get(gate), str(found.row.get("reason"))
    low = None if known is None else known.min
    high = None if known is None else known.max
    if low is not None and reason != f"{gate}_high":
        return Bound(gate=gate, side="low", value=low)
    if high is not None:
        return Bound(gate=gate, side="high", value=high)
    raise ExplanationError(
        f"the recipe of {found.label} sets neither min nor max for gate {gate!r}, so no bound shows which part of the "
        "image is to blame; name the region by --box or --mask"
    )


def blame_gate(found: Published, grid: PatchGrid, pixels: NDArray[np.uint8], gate: str, bound: Bound | None) -> Region:
    """Return the region that a gate blames: patches beyond its bound if it measures light, else the concept."""
    if bound is None:
        return Region(rle=encode_rle(require_concept(found)), source=f"the concept's mask, for gate {gate}")
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    region = blame_patches(grid, image, gate, bound.value, bound.side, concept_mask(found))
    return Region(rle=encode_rle(region.numpy()), source=f"gate {gate}", bound=bound)


def read_background(found: Published, pixels: NDArray[np.uint8], settings: ExplainSettings) -> NDArray[np.uint8]:
    """Return other images of the version with the sample's size, uint8 [M, H, W, 3], in the order of their ids.

    Ids are hashes, so this order is as good as random.
    """
    images: dict[str, NDArray[np.uint8]] = {}
    for split in found.dataset.counts.by_split:
        uri = f"{found.store.uri}/{DATASETS}/{found.dataset.name}"
        for sample in open_dataset(uri, found.dataset.version, split, **WHOLE):
            if sample["key"] != found.row["sample_id"]:
                images[sample["key"]] = np.asarray(sample["image"])
        if len(images) >= BACKGROUND_READ * settings.background:
            break

    fitting = [images[key] for key in sorted(images) if images[key].shape == pixels.shape]
    return np.stack(fitting[: settings.background]) if fitting else np.zeros((0, *pixels.shape), np.uint8)


def tell_explanation(store: Store, request: ExplainRequest) -> dict[str, Any]:
    """Return the result of an explanation, for a person and for programs."""
    receipt = explanations.STAGE.make(store, request)
    columns = ["component", "patches", "strength", "containment", "region_share", "region_rank", "shown"]
    rows = [row for row in read_table(store, receipt, columns).to_pylist() if row["shown"] is not None]

    traced = sorted((row for row in rows if row["region_rank"]), key=lambda row: row["region_rank"])
    first = traced if request.region else sorted(rows, key=lambda row: row["shown"])
    details = {name: value for name, value in receipt.details.items() if name != "files"}

    return {
        "sample_id": request.made.sample_id,
        "dataset": request.label,
        "layer": explanations.choose_layer(request),
        "region": request.region.source if request.region else None,
        **details,
        "first": first[:TOLD],
        "ledger": store.address(receipt.uri),
        "arrays": store.address(receipt.details["files"]["arrays"]["uri"]),
        "page": store.address(receipt.details["files"]["page"]["uri"]),
    }


def keep_repair(found: Published, request: ExplainRequest) -> dict[str, Any]:
    """Repair the region; if an attempt passed, record the repair for the next build of the dataset."""
    store = found.store
    receipt = mending.STAGE.make(store, request)
    row = mending.read_repaired(store, receipt)
    told = receipt.details["repair"]

    if row is not None:
        record = RepairRecord(
            dataset=found.dataset.name,
            parent=request.made.sample_id,
            sample_id=row["sample_id"],
            parent_image=mending.digest_original(request),
            samples=receipt,
        )
        record_repair(store, record)

    return {
        "repair": {key: told[key] for key in ("route", "score", "before", "after", "psnr_outside", "attempts")},
        "repaired_id": row and row["sample_id"],
        "page": store.address(receipt.details["files"]["page"]["uri"]),
    }


def undo_repair(sample_id: str, reference: str, uri: str) -> dict[str, Any]:
    """Remove the sample's repair, so that the next build uses the original image. Errors: NotFoundError."""
    name, _ = split_reference(reference)
    forget_repair(Store.open(uri), name, sample_id)
    return {"sample_id": sample_id, "dataset": name, "undone": True}


def mend_again(found: Published, job: PartitionJob, made: Rendered) -> pa.Table:
    """Return SAMPLES of a published repair, repeated from its provenance.

    Errors: NotFoundError if the version of the repair is gone; ExplanationError if no attempt passes now.
    """
    told = found.repair
    assert told is not None
    assert made.pixels is not None
    origin = find_published(told.parent, told.version, found.store.uri, rejects=True)
    background = read_background(origin, made.pixels, told.settings)
    request = ExplainRequest(job, made, told.settings, told.region, background, told.version)
    mended = mending.find_repair(request)
    if mended.taken.route == "none":
        raise ExplanationError(f"sample {found.row['sample_id']} cannot be repaired again: no attempt passes now")
    return mending.replace_image(request, mended, mending.describe_repair(request, mended))
