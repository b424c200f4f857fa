"""Stage `explanations`: one drawn sample taken apart into the components that drew it, kept as a ledger with a page.

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
from tailforge.schemas.settings.engines import SamplingSettings
from tailforge.schemas.tables import EXPLANATION
from tailforge.tasks.artifacts.contract import Address, ArtifactKind, Made
from tailforge.tasks.artifacts.stage import Stage, Workplace
from tailforge.tasks.methods.regional_primitives.decompose import DecomposeSettings
from tailforge.tasks.methods.regional_primitives.demands import Observe, Subject
from tailforge.tasks.methods.regional_primitives.explain import Explained, explain
from tailforge.tasks.methods.regional_primitives.ledger import collect_arrays, list_components, summarise
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.sampling.plain import Rendered, draw_noise
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

ENCODED = 32  # background images that are encoded together


@dataclass(frozen=True)
class Asked:
    """One sample to be explained. `background`: uint8 [M, H, W, 3], images of other samples of the version."""

    job: PartitionJob
    made: Rendered
    settings: ExplainSettings
    region: Region | None
    background: NDArray[np.uint8]
    label: str = ""  # dataset@version
    observe: Observe = lambda done, total: None

    @property
    def sample(self) -> SampleSpec:
        return next(each for each in self.job.samples if each.sample_id == self.made.sample_id)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The image as it was drawn. Errors: ExplanationError if there is none."""
        if self.made.pixels is None:
            raise ExplanationError(f"sample {self.made.sample_id} has no image: {self.made.error}; choose another")
        return self.made.pixels

    @property
    def grid(self) -> PatchGrid:
        height, width = self.pixels.shape[:2]
        return PatchGrid(self.settings.grid, self.settings.grid, height, width)

    @cached_property
    def mask(self) -> Tensor | None:
        """The region's pixels, bool [H, W]."""
        height, width = self.pixels.shape[:2]
        return None if self.region is None else torch.from_numpy(decode_rle(self.region.rle, height, width))

    @cached_property
    def model(self) -> DiffusersGenerator:
        return load_build_generator(self.job.build)

    @cached_property
    def text(self) -> tuple[Conditioning, Conditioning | None]:
        """The prompt, and what guidance leads away from where it is on."""
        engine = self.engine
        negative = self.model.encode_negative(engine.negative_prompt) if engine.guidance > 1 else None
        return self.model.encode_prompt(self.sample.prompt), negative

    @property
    def engine(self) -> SamplingSettings:
        """Errors: ExplanationError for an engine that draws without a generator."""
        engine = self.job.build.recipe.engine
        if engine.sampling is None:
            raise ExplanationError(
                f"engine {engine.kind} draws without a generator, from a classifier alone: its images have no feature "
                "that could be taken apart; explain a sample of an engine with a generator"
            )
        return engine.sampling

    @cached_property
    def explained(self) -> Explained:
        """The work itself, done once. Errors: ExplanationError, ModelError."""
        self.engine, self.pixels  # noqa: B018  both refuse what cannot be explained, before the work
        settings = DecomposeSettings(order=self.settings.order, memory_gib=self.settings.memory_gib)
        with self.model.lock:
            subject = open_subject(self)
            return explain(subject, self.grid, settings, self.mask, self.observe)


def describe(asked: Asked) -> dict[str, Any]:
    """Everything that decides an explanation beside the sample."""
    return {
        "settings": asked.settings.model_dump(mode="json"),
        "region": asked.region.model_dump(mode="json") if asked.region else None,
        "background": digest_pixels(asked.background),
    }


def digest_pixels(pixels: NDArray[np.uint8]) -> str:
    """sha256 (hex) of shape and values."""
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def locate(asked: Asked) -> Address:
    """Return the address of the ledger of a sample."""
    return locate_answer(asked, STAGE)


def locate_answer(asked: Asked, stage: ArtifactKind) -> Address:
    """Return the address of what a stage makes of a question."""
    settings = describe(asked)
    background = settings.pop("background")
    return Address(
        stage,
        part=0,
        label=f"{stage.name} {asked.made.sample_id}",
        settings={**settings, "dataset": asked.label, "sample_id": asked.made.sample_id},
        inputs={"image": digest_pixels(asked.pixels), "background": background},
        models={"generator": asked.job.build.generator.digest},
    )


def produce(workplace: Workplace, asked: Asked) -> Made:
    """Make the ledger of a sample with its arrays and its page. Errors: ExplanationError, ModelError, StoreError."""
    rows, arrays = list_components(asked.explained), collect_arrays(asked.explained)
    page = draw_page(asked, rows, arrays)
    files = keep_files(workplace, arrays, page)
    return Made(pa.Table.from_pylist(rows, EXPLANATION), details={**summarise(asked.explained), "files": files})


def draw_page(
    asked: Asked, rows: list[dict[str, Any]], arrays: dict[str, NDArray[Any]], mended: Mended | None = None
) -> bytes:
    """The page that shows an explanation, and what became of a repair."""
    page = ExplanationPage(
        sample_id=asked.made.sample_id,
        dataset=asked.label,
        prompt=asked.sample.prompt,
        settings=asked.settings,
        layer=choose_layer(asked),
        region=asked.region.source if asked.region else "",
        rows=rows,
        arrays=arrays,
        summary=summarise(asked.explained),
        mended=mended,
    )
    template = read_template("explanation.html.j2")
    return draw_explanation(page, template).encode()


def keep_files(workplace: Workplace, arrays: dict[str, NDArray[Any]], page: bytes) -> dict[str, Any]:
    """Write the arrays and the page of an answer; return their entries for `details["files"]`. Errors: StoreError."""
    store, address = workplace.store, workplace.address
    return {
        "arrays": _keep(store, address.attachment_uri("npz"), encode_arrays(arrays)),
        "page": _keep(store, address.attachment_uri("html"), page),
    }


def _keep(store: Store, uri: str, data: bytes) -> dict[str, Any]:
    store.write_bytes(uri, data)
    return {"uri": uri, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def encode_arrays(arrays: dict[str, NDArray[Any]]) -> bytes:
    """An .npz of named arrays."""
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def choose_layer(asked: Asked) -> str:
    """The layer that was asked for, or the last that is possible. Errors: ExplanationError."""
    if asked.settings.layer is not None:
        return asked.settings.layer
    if asked.settings.target == "step":
        return stage_denoiser(asked.model).layers[-1]
    return stage_decoder(asked.model.pipeline.vae)[0].layers[-1]


def open_subject(asked: Asked) -> Subject:
    """The feature, its baseline and the tail that draws from it. The caller holds the model's lock."""
    model, settings, layer = asked.model, asked.settings, choose_layer(asked)
    background = encode_background(asked)
    if settings.target == "decoder":
        assert asked.made.latents is not None
        latents = torch.from_numpy(asked.made.latents)[None].to(model.device)
        return explain_decoder(model, latents, background, layer, settings.hold_statistics)
    stage_denoiser(model)  # refuses what has no UNet
    assert isinstance(model, UNetGenerator)
    engine, (text, negative) = asked.engine, asked.text
    number = settings.step or engine.steps
    with torch.no_grad():
        step = reach_step(model, find_noise(asked), text, negative, engine.guidance, engine.steps, number)
    return explain_step(model, step, background, layer, hold_norms=settings.hold_statistics)


@torch.no_grad()
def encode_background(asked: Asked) -> Tensor:
    """Latents of other images, as the autoencoder's encoder gives them. Errors: ExplanationError for fewer than two."""
    if len(asked.background) < 2:
        raise ExplanationError(
            f"{asked.label} has {count_of(len(asked.background), 'other image')} of this size; the baseline of an "
            "explanation is a mean over other images and needs at least two, better 256"
        )
    parts = np.array_split(asked.background, -(-len(asked.background) // ENCODED))
    images = (torch.from_numpy(part).permute(0, 3, 1, 2).float() / 127.5 - 1 for part in parts)
    return torch.cat([asked.model.encode(part) for part in images])


def find_noise(asked: Asked) -> Tensor:
    """The noise that the sample was drawn from, [1, C, h, w]."""
    model = asked.model
    if asked.made.noise is not None:
        return torch.from_numpy(asked.made.noise)[None].to(model.device, model.dtype)
    height, width = asked.pixels.shape[:2]
    return draw_noise(model, [torch.Generator("cpu").manual_seed(asked.sample.seed)], height, width)


STAGE = Stage(name="explanations", version="1", schema=EXPLANATION, locate=locate, produce=produce)
