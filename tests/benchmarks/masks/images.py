"""What the masks benchmark looks at: generated pictures with several readings of their attention, and renders.

Each set is a dict of arrays, `images` [N, H, W, 3] and `truth` [N, H, W] among them; `maps/NAME` [N, K, h, w] is what a
reading recorded. See masks.py.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailforge.catalog.sources.models import MODELS, digest_model
from tailforge.schemas.jobs import ResolvedModel, SampleSpec, Slot
from tailforge.schemas.settings.annotation import Recording
from tailforge.schemas.settings.engines import PlainEngine, SeedSelectEngine
from tailforge.tasks.methods.attention.cross_attention import Capture, Layer, choose_layer, choose_steps, find_layers
from tailforge.tasks.methods.attention.self_affinity import SpreadCapture
from tailforge.tasks.methods.embedded.measure import Request, plan_requests
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.generator import join_conditionings
from tailforge.tasks.methods.sampling.pixels import to_pixels
from tailforge.tasks.methods.sampling.plain import (
    Sampling,
    draw_noise,
    prepare_sampling,
    prepare_scheduler,
    prepare_texts,
    sample_latents,
)
from tailforge.tasks.methods.sampling.rendered import cut_batches
from tailforge.tasks.methods.sampling.renoised_attention import Captioned, read_attention
from tailforge.tasks.methods.seed_select.engine import render_searched
from tailforge.tasks.methods.workshop import (
    BALANCED,
    HEAD_PARTS,
    MATERIALS,
    PARTS,
    SURFACES,
    TAIL_PARTS,
    Scene,
    render,
    sample_scene,
)
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator
from tailforge.tasks.models.judges import Judges
from tailforge.tasks.models.text_to_image import load_generator
from tests.benchmarks.seedselect.parts import make_goal, open_bench

ENGINE = PlainEngine(batch_size=8)
SEARCH = SeedSelectEngine(steps=16, guidance=3.0, batch_size=8, checkpointing=False)
RENDER_SEED = 991  # of no training and no calibration
NOISE = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
DRAWS = 2
OURS = "ours"

Set = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Reading:
    """Which layers are read (ours, grid16, grid8, all), in which part of the schedule, how often spread."""

    layers: str = OURS
    window: tuple[float, float] = (0.0, 0.5)
    affinity: int = 0


READINGS = {
    OURS: Reading(),
    "layers/all of the 16 grid": Reading("grid16"),
    "layers/all of the 8 grid": Reading("grid8"),
    "layers/all": Reading("all"),
    "window/0 to 0.25": Reading(window=(0.0, 0.25)),
    "window/0 to 1": Reading(window=(0.0, 1.0)),
    "window/0.2 to 0.8": Reading(window=(0.2, 0.8)),
    "window/0.5 to 1": Reading(window=(0.5, 1.0)),
    "affinity/once": Reading(affinity=1),
    "affinity/four times": Reading(affinity=4),
    "daam": Reading("all", (0.0, 1.0)),
}


def open_generator() -> DiffusersGenerator:
    """The embedded one."""
    folder = MODELS / "workshop"
    return load_generator(ResolvedModel(path=str(folder), digest=digest_model(folder)))


def specify(number: int, request: Request) -> SampleSpec:
    """The request as a sample with slots material, concept and surface."""
    part, material, surface = request.labels
    named = (("material", MATERIALS[material]), ("concept", PARTS[part]), ("surface", SURFACES[surface]))
    starts = {name: request.prompt.index(value) for name, value in named}
    slots = tuple(Slot(name=name, value=v, start=starts[name], end=starts[name] + len(v)) for name, v in named)
    return SampleSpec(
        sample_id=f"{number:016x}",
        seed=request.seed,
        prompt_index=number,
        replica=0,
        prompt=request.prompt,
        slots=slots,
    )


def plan_pictures(parts: Sequence[str], images_per_part: int, seed: int) -> list[Request]:
    """Requests of each part with materials and surfaces by lot, no pair of them twice."""
    pairs = len(MATERIALS) * len(SURFACES)
    requests, draws = plan_requests(pairs, seed), np.random.default_rng(seed)
    chosen = [(PARTS.index(part), turn) for part in parts for turn in draws.permutation(pairs)[:images_per_part]]
    return [requests[part * pairs + turn] for part, turn in chosen]


def _pick_layers(layers: Sequence[Layer], name: str) -> list[Layer]:
    levels = {"grid16": (0,), "grid8": (1,), "all": (0, 1)}.get(name)
    return [choose_layer(layers, 16, 16)] if levels is None else [each for each in layers if each.level in levels]


def _watch(sampling: Sampling, timesteps: Sequence[float], words: Any, reading: Reading) -> Capture:
    denoiser, count = sampling.model.denoiser, len(words)
    layers = _pick_layers(find_layers(denoiser), reading.layers)
    steps, rows = choose_steps(timesteps, 1000, reading.window), slice(count, 2 * count)
    if reading.affinity:
        return SpreadCapture(denoiser, layers, words, rows, steps, times=reading.affinity)
    return Capture(denoiser, layers, words, rows, steps)


def make_generated(model: DiffusersGenerator, judges: Judges, seed: int, images_per_part: int) -> Set:
    """Pictures of every part, all readings recorded while they are drawn; truth is the segmenter's word."""
    requests = plan_pictures(PARTS, images_per_part, seed)
    samples = [specify(number, request) for number, request in enumerate(requests)]
    sampling = prepare_sampling(model, ENGINE, Recording(), Clock())
    parts = [_draw_batch(sampling, batch) for batch in cut_batches(samples, ENGINE.batch_size)]
    made: Set = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    labels = np.array([request.labels for request in requests])
    return made | {"truth": judges.segment(made["images"]), "labels": labels}


@torch.inference_mode()
def _draw_batch(sampling: Sampling, batch: Sequence[SampleSpec]) -> Set:
    texts: dict[str, Any] = {}
    prepare_texts(sampling, batch, texts)
    generators = [torch.Generator("cpu").manual_seed(sample.seed) for sample in batch]
    noise = draw_noise(sampling.model, generators, *sampling.size)
    scheduler = prepare_scheduler(sampling, sampling.settings.steps)
    timesteps, words = [float(t) for t in scheduler.timesteps], [texts[sample.prompt].words for sample in batch]
    text = join_conditionings([texts[sample.prompt].conditioning for sample in batch])
    captures = {name: _watch(sampling, timesteps, words, reading) for name, reading in READINGS.items()}
    with ExitStack() as stack:
        for capture in captures.values():
            stack.enter_context(capture)
        guidance = sampling.settings.guidance
        latents = sample_latents(sampling.model, scheduler, noise, text, sampling.negative, guidance, generators)
    rows = range(len(batch))
    return {
        "images": to_pixels(sampling.model.decode(latents).float()),
        "agreement": np.array([captures[OURS].agreement(row) for row in rows]),
        **{f"maps/{name}": np.stack([each.maps(row) for row in rows]) for name, each in captures.items()},
    }


def make_rare(judges: Judges, seed: int, images_per_part: int) -> Set:
    """Pictures of the rare parts that SeedSelect finds; truth is the segmenter's word."""
    bench, found = open_bench(), []
    for part in TAIL_PARTS:
        goal = make_goal(bench, part, seed, SEARCH)
        requests = plan_pictures([part], images_per_part, seed)
        samples = [specify(number, request) for number, request in enumerate(requests)]
        found += list(render_searched(bench.model, samples, SEARCH, goal, Recording(), Clock()))
    images = np.stack([made.pixels for made in found if made.pixels is not None])
    maps = np.stack([made.attention for made in found if made.attention is not None])
    parts = [PARTS.index(TAIL_PARTS[place // images_per_part]) for place, made in enumerate(found) if not made.error]
    return {
        "images": images,
        f"maps/{OURS}": maps,
        "agreement": np.array([made.agreement for made in found if not made.error]),
        "labels": np.array(parts)[:, None],
        "truth": judges.segment(images),
    }


def make_renders(model: DiffusersGenerator, seed: int, count: int) -> Set:
    """Renders of every part, noised and read in one pass with "a photo of a PART"; truth is the renderer's mask."""
    scenes = [sample_scene(number, RENDER_SEED + seed, BALANCED) for number in range(count)]
    renders, prefix = [render(scene) for scene in scenes], "a photo of a "
    pictures = [
        Captioned(made.image, prefix + scene.part, ((len(prefix), len(prefix + scene.part)),), number)
        for number, (scene, made) in enumerate(zip(scenes, renders, strict=True))
    ]
    return {
        "images": np.stack([made.image for made in renders]),
        "truth": np.stack([made.mask for made in renders]),
        "labels": np.array([[PARTS.index(scene.part)] for scene in scenes]),
        **{f"maps/renders/noised to {noise:g}": read_maps(model, pictures, noise) for noise in NOISE},
    }


def make_composed(model: DiffusersGenerator, seed: int, count: int) -> Set:
    """Two different common parts, half their size, side by side on one surface, read with a caption that names both.

    `truth` [N, 2, H, W]. The generator was never shown two parts in one picture.
    """
    draws = np.random.default_rng((RENDER_SEED, seed))
    pictures, truths = zip(*(_compose(draws, number) for number in range(count)), strict=True)
    return {
        "images": np.stack([picture.pixels for picture in pictures]),
        "truth": np.stack(truths),
        f"maps/{OURS}": read_maps(model, pictures, 0.2),
    }


def _compose(draws: np.random.Generator, number: int) -> tuple[Captioned, NDArray[np.bool_]]:
    surface = SURFACES[number % len(SURFACES)]
    parts, materials = draws.choice(HEAD_PARTS, 2, replace=False), draws.choice(MATERIALS, 2, replace=False)
    scenes = [Scene(str(p), str(m), surface, int(draws.integers(2**31))) for p, m in zip(parts, materials, strict=True)]
    image = render(Scene("washer", "steel", surface, number), 512).image[:64, :64].copy()  # a corner without the part
    truth = np.zeros((2, 64, 64), np.bool_)
    corners = [(2, 2), (30, 30)] if number % 2 else [(30, 2), (2, 30)]
    for place, (scene, (top, left)) in enumerate(zip(scenes, corners, strict=True)):
        made, window = render(scene, 32), np.s_[top : top + 32, left : left + 32]
        image[window][made.mask] = made.image[made.mask]
        truth[place][window] = made.mask
    first, second = scenes
    caption = f"a photo of a {first.material} {first.part} and a {second.material} {second.part} on a {surface}"
    starts = (caption.index(first.part), caption.rindex(second.part))
    words = tuple((start, start + len(scene.part)) for start, scene in zip(starts, scenes, strict=True))
    return Captioned(image, caption, words, number), truth


def read_maps(model: DiffusersGenerator, pictures: Sequence[Captioned], noise: float) -> NDArray[np.float16]:
    """Attention maps [N, K, h, w] of finished pictures."""
    found = [read.maps for batch in cut_batches(pictures, 16) for read in read_attention(model, batch, noise, DRAWS)]
    return np.stack(found)


def select(made: Mapping[str, NDArray[Any]], rows: NDArray[np.bool_]) -> Set:
    """Some pictures of a set."""
    return {name: values[rows] for name, values in made.items()}
