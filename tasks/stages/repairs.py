"""Stage `repairs`: a sample with one region repaired, as a row of SAMPLES that replaces it in builds."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from tailforge.catalog.store import Store
from tailforge.schemas.errors import ExplanationError
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.tables import SAMPLES
from tailforge.tasks.artifacts.contract import Address, Made, canonical_json, read_table
from tailforge.tasks.artifacts.stage import Stage, Workplace
from tailforge.tasks.methods.packing.png import encode_png
from tailforge.tasks.methods.planning.samples import derive_repair_id, derive_seed
from tailforge.tasks.methods.regional_primitives.defects import PIXEL_MEASURES, score_artifacts, score_gate
from tailforge.tasks.methods.regional_primitives.explain import mend
from tailforge.tasks.methods.regional_primitives.inpaint import InpaintSettings, inpaint_region
from tailforge.tasks.methods.regional_primitives.ledger import collect_arrays, list_components
from tailforge.tasks.methods.regional_primitives.repair import Attempt, Defect, Repair, RepairSettings
from tailforge.tasks.methods.sampling.pixels import to_pixels
from tailforge.tasks.models.unet_generator import UNetGenerator
from tailforge.tasks.report.explanation import Mended
from tailforge.tasks.report.provenance import read_origin
from tailforge.tasks.stages.explanations import (
    ExplainRequest,
    choose_layer,
    describe_request,
    draw_page,
    locate_result,
    write_files,
)
from tailforge.tasks.stages.work.samples import tabulate

REDRAWN = 3  # inpainted images to try
ARTIFACTS = "artifacts"


def locate(request: ExplainRequest) -> Address:
    """Return the address of a sample's repair. Errors: ExplanationError without a region."""
    if request.region is None:
        raise ExplanationError("a repair needs a region; name it by --box, --mask or --gate")
    return locate_result(request, STAGE)


def produce(workplace: Workplace, request: ExplainRequest) -> Made:
    """Make the repaired row, or no row if no attempt passed. `details["repair"]` describes the attempts.

    Errors: ExplanationError, ModelError, StoreError.
    """
    made = find_repair(request)
    description = describe_repair(request, made)
    rows, arrays = list_components(request.explained), collect_arrays(request.explained)
    arrays["mended"] = to_pixels(made.taken.image)[0]

    page = draw_page(request, rows, arrays, Mended(arrays["mended"], description))
    files = write_files(workplace, arrays, page)
    table = replace_image(request, made, description) if made.taken.route != "none" else SAMPLES.empty_table()
    return Made(table, details={"repair": description, "files": files})


def find_repair(request: ExplainRequest) -> Repair:
    """Return the attempts by components and by inpainting, and the best that passed. Errors: ExplanationError."""
    explained = request.explained
    with request.model.lock:
        defect, anchor = choose_defect(request)
        return mend(explained, defect, RepairSettings(), redraw_region(request), anchor)


def choose_defect(request: ExplainRequest) -> tuple[Defect, Tensor | None]:
    """Return the defect to reduce, and an anchor image, [1, 3, H, W]; None without anchor.

    The defect is the distance to the region's gate if that has gradients, else the image's artifacts. The anchor for
    artifacts is the autoencoder's reconstruction of the image. On planted faults it was nearer to the truth in every
    case (docs/benchmarks/primitives.md).
    """
    assert request.region is not None
    assert request.mask is not None
    bound = request.region.bound
    if bound is not None and bound.gate in PIXEL_MEASURES:
        return score_gate(PIXEL_MEASURES[bound.gate], bound.value, bound.side), None
    model = request.model

    def reconstruct(images: Tensor) -> Tensor:
        """Encode and decode images, [B, 3, H, W]."""
        return model.decode(model.encode(images)).to(images.dtype)

    with torch.no_grad():
        anchor = reconstruct(request.explained.found.drawn.image)
    return score_artifacts(reconstruct, request.mask), anchor


def redraw_region(request: ExplainRequest) -> Iterator[Tensor]:
    """Yield images with the region inpainted by the generator, [1, 3, H, W]; none without a UNet or latents."""
    model, engine = request.model, request.engine
    if not isinstance(model, UNetGenerator) or request.made.latents is None or request.mask is None:
        return iter(())
    text, negative = request.text
    settings = InpaintSettings(steps=engine.steps, guidance=engine.guidance)
    seeds = [derive_seed(request.made.sample_id, f"inpaint:{number}") for number in range(REDRAWN)]
    latents = torch.from_numpy(request.made.latents)[None].to(model.device, model.dtype)
    return inpaint_region(model, latents, request.mask, text, negative, settings, seeds)


def describe_repair(request: ExplainRequest, made: Repair) -> dict[str, Any]:
    """Return everything that decided the repaired image, and its scores, for its provenance."""
    bound = request.region.bound if request.region else None
    followed = bound is not None and bound.gate in PIXEL_MEASURES

    return {
        "parent": request.made.sample_id,
        "version": request.label,
        "route": made.taken.route,
        "score": bound.gate if bound is not None and followed else ARTIFACTS,
        "before": made.before,
        "after": made.taken.score,
        "psnr_outside": finite(made.taken.psnr_outside),
        "layer": choose_layer(request),
        "components": [
            {"patches": list(request.explained.found.fields[row]), "gain": round(gain, 4)}
            for row, gain in zip(request.explained.blamed, made.taken.gains, strict=False)
        ],
        "attempts": [describe_attempt(each) for each in made.attempts],
        **describe_request(request),
    }


def describe_attempt(attempt: Attempt) -> dict[str, Any]:
    """Return one attempt as JSON-like values."""
    return {
        "route": attempt.route,
        "score": attempt.score,
        "psnr_outside": finite(attempt.psnr_outside),
        "accepted": attempt.accepted,
    }


def finite(value: float) -> float | None:
    """Return a rounded number; None for infinity, which JSON lacks and which means that nothing changed."""
    return round(value, 3) if value < float("inf") else None


def replace_image(request: ExplainRequest, made: Repair, description: dict[str, Any]) -> pa.Table:
    """Return the SAMPLES of the repaired image: the parent's row with new id, image and provenance."""
    (row,) = tabulate(request.job, request.made).to_pylist()
    image = encode_png(to_pixels(made.taken.image)[0])
    row["sample_id"] = derive_repair_id(row["sample_id"], hashlib.sha256(image).hexdigest())
    row["image"] = image
    row["provenance"] = canonical_json({**read_origin(row["provenance"]), "repair": description})
    return pa.Table.from_pylist([row], SAMPLES)


def digest_original(request: ExplainRequest) -> str:
    """Return the sha256 (hex) of the original PNG, as SAMPLES holds it. Errors: ExplanationError without an image."""
    return hashlib.sha256(encode_png(request.pixels)).hexdigest()


def read_repaired(store: Store, receipt: Receipt) -> dict[str, Any] | None:
    """Return the repaired row; None if no attempt passed. Errors: StoreError."""
    rows: Iterable[dict[str, Any]] = read_table(store, receipt).to_pylist()
    return next(iter(rows), None)


STAGE = Stage(name="repairs", version="1", schema=SAMPLES, locate=locate, produce=produce, makes_images=True)
