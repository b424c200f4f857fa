"""Stage `explanations`: the components of the generator's feature that drew one sample, as a ledger with a page.

The ledger is a table (EXPLANATION), the arrays that it names (.npz) and a page (.html) under one receipt.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailforge.catalog.store import Store
from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ExplanationError
from tailforge.schemas.explanation import ExplainSettings, Region
from tailforge.schemas.jobs import PartitionJob, SampleSpec
from tailforge.schemas.settings.sampling import SamplingSettings
from tailforge.schemas.tables import EXPLANATION
from tailforge.tasks.artifacts.contract import Address, ArtifactKind, Made
from tailforge.tasks.artifacts.stage import Stage, Workplace
from tailforge.tasks.methods.regional_primitives.decompose import DecomposeSettings
from tailforge.tasks.methods.regional_primitives.demands import Observe, Subject
from tailforge.tasks.methods.regional_primitives.explain import Explained, explain
from tailforge.tasks.methods.regional_primitives.ledger import collect_arrays, list_components, summarise
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.sampling.plain import draw_noise
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator
from tailforge.tasks.models.explained_generator import (
    explain_decoder,
    explain_step,
    reach_step,
    stage_decoder,
    stage_denoiser,
)
from tailforge.tasks.models.text_to_image import load_build_generator
from tailforge.tasks.models.unet_generator import UNetGenerator
from tailforge.tasks.report.explanation import ExplanationPage, Mended, draw_explanation
from tailforge.tasks.report.template_files import read_template

ENCODED = 32  # background images per batch of the encoder


@dataclass(frozen=True)
class ExplainRequest:
    """One sample to explain. `background`: uint8 [M, H, W, 3], images of other samples of the version."""

    job: PartitionJob
    made: Rendered
    settings: ExplainSettings
    region: Region | None
    background: NDArray[np.uint8]
    label: str = ""  # dataset@version
    observe: Observe = lambda done, total: None

    @property
    def sample(self) -> SampleSpec:
        """Return the sample's plan."""
        return next(each for each in self.job.samples if each.sample_id == self.made.sample_id)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """Return the original image, uint8 [H, W, 3]. Errors: ExplanationError if there is none."""
        if self.made.pixels is None:
            raise ExplanationError(f"sample {self.made.sample_id} has no image: {self.made.error}; choose another")
        return self.made.pixels

    @property
    def grid(self) -> PatchGrid:
        """Return the patches of the image. Errors: ExplanationError without an image."""
        height, width = self.pixels.shape[:2]
        return PatchGrid(self.settings.grid, self.settings.grid, height, width)

    @cached_property
    def mask(self) -> Tensor | None:
        """Return the region's pixels, bool [H, W]; None without a region."""
        height, width = self.pixels.shape[:2]
        return None if self.region is None else torch.from_numpy(decode_rle(self.region.rle, height, width))

    @cached_property
    def model(self) -> DiffusersGenerator:
        """Return the build's generator, loaded. Errors: ModelError."""
        return load_build_generator(self.job.build)

    @cached_property
    def text(self) -> tuple[Conditioning, Conditioning | None]:
        """Return the encoded prompt, and the negative prompt if guidance is on. Errors: ExplanationError."""
        engine = self.engine
        negative = self.model.encode_negative(engine.negative_prompt) if engine.guidance > 1 else None
        return self.model.encode_prompt(self.sample.prompt), negative

    @property
    def engine(self) -> SamplingSettings:
        """Return the sampling settings. Errors: ExplanationError for an engine that draws no whole image."""
        engine = self.job.build.recipe.engine
        if engine.follows_sources:
            raise ExplanationError(
                f"engine {engine.kind} draws into a photograph, which no component of a generator makes; explain a "
                "sample of an engine that draws whole images"
            )
        if engine.sampling is None:
            raise ExplanationError(
                f"engine {engine.kind} makes images from a classifier, without a generator: no feature can be "
                "decomposed; explain a sample of an engine with a generator"
            )
        return engine.sampling

    @cached_property
    def explained(self) -> Explained:
        """Return the explanation, computed once. Errors: ExplanationError, ModelError."""
        self.engine, self.pixels  # noqa: B018  both refuse an impossible sample before the work
        settings = DecomposeSettings(order=self.settings.order, memory_gib=self.settings.memory_gib)
        with self.model.lock:
            subject = open_subject(self)
            return explain(subject, self.grid, settings, self.mask, self.observe)


def describe_request(request: ExplainRequest) -> dict[str, Any]:
    """Return everything that decides an explanation except the sample."""
    return {
        "settings": request.settings.model_dump(mode="json"),
        "region": request.region.model_dump(mode="json") if request.region else None,
        "background": digest_pixels(request.background),
    }


def digest_pixels(pixels: NDArray[np.uint8]) -> str:
    """Return the sha256 (hex) of the shape and values of an array, uint8 of any shape."""
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def locate(request: ExplainRequest) -> Address:
    """Return the address of a sample's ledger. Errors: ExplanationError without an image."""
    return locate_result(request, STAGE)


def locate_result(request: ExplainRequest, stage: ArtifactKind) -> Address:
    """Return the address of a stage's result for a request. Errors: ExplanationError without an image."""
    settings = describe_request(request)
    background = settings.pop("background")
    return Address(
        stage,
        part=0,
        label=f"{stage.name} {request.made.sample_id}",
        settings={**settings, "dataset": request.label, "sample_id": request.made.sample_id},
        inputs={"image": digest_pixels(request.pixels), "background": background},
        models={"generator": request.job.build.require_generator().digest},
    )


def produce(workplace: Workplace, request: ExplainRequest) -> Made:
    """Make a sample's ledger with its arrays and its page. Errors: ExplanationError, ModelError, StoreError."""
    rows, arrays = list_components(request.explained), collect_arrays(request.explained)
    page = draw_page(request, rows, arrays)
    files = write_files(workplace, arrays, page)
    return Made(pa.Table.from_pylist(rows, EXPLANATION), details={**summarise(request.explained), "files": files})


def draw_page(
    request: ExplainRequest, rows: list[dict[str, Any]], arrays: dict[str, NDArray[Any]], mended: Mended | None = None
) -> bytes:
    """Return the page (HTML) of an explanation, with the outcome of a repair. Errors: ExplanationError, ModelError."""
    page = ExplanationPage(
        sample_id=request.made.sample_id,
        dataset=request.label,
        prompt=request.sample.prompt,
        settings=request.settings,
        layer=choose_layer(request),
        region=request.region.source if request.region else "",
        rows=rows,
        arrays=arrays,
        summary=summarise(request.explained),
        mended=mended,
    )

    template = read_template("explanation.html.j2")
    return draw_explanation(page, template).encode()


def write_files(workplace: Workplace, arrays: dict[str, NDArray[Any]], page: bytes) -> dict[str, Any]:
    """Write arrays and page; return their entries for `details["files"]`. Errors: StoreError."""
    store, address = workplace.store, workplace.address
    return {
        "arrays": _write_file(store, address.attachment_uri("npz"), encode_arrays(arrays)),
        "page": _write_file(store, address.attachment_uri("html"), page),
    }


def _write_file(store: Store, uri: str, data: bytes) -> dict[str, Any]:
    """Write a file and return its entry."""
    store.write_bytes(uri, data)
    return {"uri": uri, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def encode_arrays(arrays: dict[str, NDArray[Any]]) -> bytes:
    """Return the .npz of named arrays of any shape."""
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def choose_layer(request: ExplainRequest) -> str:
    """Return the requested layer, by default the last possible one. Errors: ExplanationError, ModelError."""
    if request.settings.layer is not None:
        return request.settings.layer
    if request.settings.target == "step":
        return stage_denoiser(request.model).layers[-1]
    return stage_decoder(request.model.pipeline.vae)[0].layers[-1]


def open_subject(request: ExplainRequest) -> Subject:
    """Return the feature, its baseline and the layers that draw the image from it.

    The caller holds the model's lock. Errors: ExplanationError for a generator without UNet.
    """
    model, settings, layer = request.model, request.settings, choose_layer(request)
    background = encode_background(request)
    if settings.target == "decoder":
        assert request.made.latents is not None
        latents = torch.from_numpy(request.made.latents)[None].to(model.device)
        return explain_decoder(model, latents, background, layer, settings.hold_statistics)

    # Repeat the sampling up to the step whose feature is explained.
    stage_denoiser(model)  # refuses a model without UNet
    assert isinstance(model, UNetGenerator)
    engine, (text, negative) = request.engine, request.text
    number = settings.step or engine.steps
    with torch.no_grad():
        step = reach_step(model, find_noise(request), text, negative, engine.guidance, engine.steps, number)
    return explain_step(model, step, background, layer, hold_norms=settings.hold_statistics)


@torch.no_grad()
def encode_background(request: ExplainRequest) -> Tensor:
    """Return the encoded latents of the background images, [M, C, h, w]. Errors: ExplanationError for M < 2."""
    if len(request.background) < 2:
        raise ExplanationError(
            f"{request.label} has {count_of(len(request.background), 'other image')} of this size; the baseline of an "
            "explanation is a mean over other images and needs at least two, better 256"
        )
    parts = np.array_split(request.background, -(-len(request.background) // ENCODED))
    images = (torch.from_numpy(part).permute(0, 3, 1, 2).float() / 127.5 - 1 for part in parts)
    return torch.cat([request.model.encode(part) for part in images])


def find_noise(request: ExplainRequest) -> Tensor:
    """Return the noise that the sample began from, [1, C, h, w]."""
    model = request.model
    if request.made.noise is not None:
        return torch.from_numpy(request.made.noise)[None].to(model.device, model.dtype)
    height, width = request.pixels.shape[:2]
    return draw_noise(model, [torch.Generator("cpu").manual_seed(request.sample.seed)], height, width)


STAGE = Stage(name="explanations", version="1", schema=EXPLANATION, locate=locate, produce=produce)
