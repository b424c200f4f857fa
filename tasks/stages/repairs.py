"""Stage `repairs`: a region of one drawn sample mended, as a row of SAMPLES that a build can take in its place."""

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
from tailforge.tasks.methods.sampling.plain import to_pixels
from tailforge.tasks.models.unet_generator import UNetGenerator
from tailforge.tasks.report.explanation import Mended
from tailforge.tasks.report.provenance import read_origin
from tailforge.tasks.stages.explanations import Asked, choose_layer, describe, draw_page, keep_files, locate_answer
from tailforge.tasks.stages.samples import tabulate

REDRAWN = 3  # inpainted images that are tried
ARTIFACTS = "artifacts"


def locate(asked: Asked) -> Address:
    """Return the address of the repair of a sample. Errors: ExplanationError without a region."""
    if asked.region is None:
        raise ExplanationError("a repair needs a region; name it by --box, --mask or --gate")
    return locate_answer(asked, STAGE)


def produce(workplace: Workplace, asked: Asked) -> Made:
    """Make the repaired row; none if no attempt passed. `details["repair"]` describes the attempts.

    Errors: ExplanationError, ModelError, StoreError.
    """
    made = find_repair(asked)
    told = describe_repair(asked, made)
    rows, arrays = list_components(asked.explained), collect_arrays(asked.explained)
    arrays["mended"] = to_pixels(made.taken.image)[0]

    page = draw_page(asked, rows, arrays, Mended(arrays["mended"], told))
    files = keep_files(workplace, arrays, page)
    table = replace_image(asked, made, told) if made.taken.route != "none" else SAMPLES.empty_table()
    return Made(table, details={"repair": told, "files": files})


def find_repair(asked: Asked) -> Repair:
    """The attempt that passed, by components or by inpainting, or none. Errors: ExplanationError."""
    explained = asked.explained
    with asked.model.lock:
        defect, anchor = choose_defect(asked)
        return mend(explained, defect, RepairSettings(), redraw_region(asked), anchor)


def choose_defect(asked: Asked) -> tuple[Defect, Tensor | None]:
    """How far the image misses the gate that was named, if that can be followed by gradients; else artifacts.

    With artifacts the autoencoder's reconstruction of the image is the anchor: on planted faults it was nearer to the
    truth in every case (docs/benchmarks/primitives.md).
    """
    assert asked.region is not None
    assert asked.mask is not None
    bound = asked.region.bound
    if bound is not None and bound.gate in PIXEL_MEASURES:
        return score_gate(PIXEL_MEASURES[bound.gate], bound.value, bound.side), None
    model = asked.model

    def reconstruct(images: Tensor) -> Tensor:
        return model.decode(model.encode(images)).to(images.dtype)

    with torch.no_grad():
        anchor = reconstruct(asked.explained.found.drawn.image)
    return score_artifacts(reconstruct, asked.mask), anchor


def redraw_region(asked: Asked) -> Iterator[Tensor]:
    """The rivals: the region drawn anew by the generator itself, where its schedule can be walked by DDIM."""
    model, engine = asked.model, asked.engine
    if not isinstance(model, UNetGenerator) or asked.made.latents is None or asked.mask is None:
        return iter(())
    text, negative = asked.text
    settings = InpaintSettings(steps=engine.steps, guidance=engine.guidance)
    seeds = [derive_seed(asked.made.sample_id, f"inpaint:{number}") for number in range(REDRAWN)]
    latents = torch.from_numpy(asked.made.latents)[None].to(model.device, model.dtype)
    return inpaint_region(model, latents, asked.mask, text, negative, settings, seeds)


def describe_repair(asked: Asked, made: Repair) -> dict[str, Any]:
    """Everything that decided the mended image, and how it was judged; goes into its provenance."""
    bound = asked.region.bound if asked.region else None
    followed = bound is not None and bound.gate in PIXEL_MEASURES
    return {
        "parent": asked.made.sample_id,
        "version": asked.label,
        "route": made.taken.route,
        "score": bound.gate if bound is not None and followed else ARTIFACTS,
        "before": made.before,
        "after": made.taken.score,
        "psnr_outside": finite(made.taken.psnr_outside),
        "layer": choose_layer(asked),
        "components": [
            {"patches": list(asked.explained.found.fields[row]), "gain": round(gain, 4)}
            for row, gain in zip(asked.explained.blamed, made.taken.gains, strict=False)
        ],
        "attempts": [tell_attempt(each) for each in made.attempts],
        **describe(asked),
    }


def tell_attempt(attempt: Attempt) -> dict[str, Any]:
    """One route, as it is printed."""
    return {
        "route": attempt.route,
        "score": attempt.score,
        "psnr_outside": finite(attempt.psnr_outside),
        "accepted": attempt.accepted,
    }


def finite(value: float) -> float | None:
    """JSON knows no infinity: None where nothing changed."""
    return round(value, 3) if value < float("inf") else None


def replace_image(asked: Asked, made: Repair, told: dict[str, Any]) -> pa.Table:
    """SAMPLES of the mended image: the parent's row, maps of attention included, with an identity of its own."""
    (row,) = tabulate(asked.job, asked.made).to_pylist()
    image = encode_png(to_pixels(made.taken.image)[0])
    row["sample_id"] = derive_repair_id(row["sample_id"], hashlib.sha256(image).hexdigest())
    row["image"] = image
    row["provenance"] = canonical_json({**read_origin(row["provenance"]), "repair": told})
    return pa.Table.from_pylist([row], SAMPLES)


def parent_image(asked: Asked) -> str:
    """sha256 (hex) of the PNG that was mended, as SAMPLES hold it."""
    return hashlib.sha256(encode_png(asked.pixels)).hexdigest()


def read_mended(store: Store, receipt: Receipt) -> dict[str, Any] | None:
    """The mended row, None where no attempt passed. Errors: StoreError."""
    rows: Iterable[dict[str, Any]] = read_table(store, receipt).to_pylist()
    return next(iter(rows), None)


STAGE = Stage(name="repairs", version="1", schema=SAMPLES, locate=locate, produce=produce, makes_images=True)
