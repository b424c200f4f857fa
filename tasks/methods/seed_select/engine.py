"""Make images from searched noise. Each image is rendered alone from its chosen noise.

That noise is first rounded to float16 and kept. So the image can be made again from it, bit-equal and without the
search. Settings without a search (one candidate, no step) give the plain sample and keep no noise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.settings.annotation import Recording
from tailforge.schemas.settings.engines import BestOfNEngine, SearchEngine, SeedSelectEngine, ZeroOrderEngine
from tailforge.schemas.under_way import tell
from tailforge.tasks.methods.planning.samples import derive_seed
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.generator import ImageGenerator, join_conditionings
from tailforge.tasks.methods.sampling.memory import within_memory
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.sampling.plain import (
    Sampling,
    Text,
    hold,
    out_of_memory,
    prepare_sampling,
    prepare_texts,
    render_noise,
)
from tailforge.tasks.methods.sampling.rendered import OUT_OF_MEMORY, Rendered, cut_batches
from tailforge.tasks.methods.seed_select.aim import Aim, ImageEncoder
from tailforge.tasks.methods.seed_select.optimise import optimise
from tailforge.tasks.methods.seed_select.rivals import best_of_n, zero_order
from tailforge.tasks.methods.seed_select.screening import screen, screen_rounds
from tailforge.tasks.methods.seed_select.search import Batch, Found, Search, aim_each, require_deterministic, rounded


@dataclass(frozen=True)
class Seeds:
    """Noises [F, C, H, W] of an earlier search, and the prompt that each was found for."""

    noise: Tensor
    prompts: Sequence[str]

    def of(self, prompt: str) -> list[int]:
        """Return the rows found for a prompt, or all rows if there are none; those of other prompts serve less well."""
        return [row for row, own in enumerate(self.prompts) if own == prompt] or list(range(len(self.prompts)))


@dataclass(frozen=True)
class Goal:
    """The input of a concept's search: its aim, rival concepts' centroids [N, D], and noises found before."""

    encoder: ImageEncoder
    aim: Aim
    rivals: Tensor | None = None
    seeds: Seeds | None = None


def render_searched(
    model: ImageGenerator,
    samples: Sequence[SampleSpec],
    settings: SearchEngine,
    goal: Goal,
    recording: Recording | None,
    clock: Clock,
) -> Iterator[Rendered]:
    """Render every sample in order, from noise chosen by the engine of `settings`.

    Errors: RecipeError for a scheduler that adds noise on the way or an image size that the model cannot make.
    """
    search = open_search(model, settings, goal, recording, clock)
    texts: dict[str, Text] = {}

    def render(batch: Sequence[SampleSpec]) -> list[Rendered]:
        with clock.phase("search"):
            found = find(search, batch, texts, goal.seeds)
        return [finish(search, sample, texts, each, len(batch)) for sample, each in zip(batch, found, strict=True)]

    # Search a whole batch under the lock, then render each image alone.
    for number, batch in enumerate(cut_batches(samples, settings.batch_size)):
        tell("image", number * settings.batch_size, len(samples))
        with hold(model, clock):
            prepare_texts(search.sampling, batch, texts)
            rendered = within_memory(render, batch, out_of_memory, model, ("search", search.sampling.size))
        yield from rendered


def find_noise(
    model: ImageGenerator, samples: Sequence[SampleSpec], settings: SearchEngine, goal: Goal, clock: Clock
) -> list[Found]:
    """Return the noises chosen for one batch of samples, without their images."""
    search = open_search(model, settings, goal, None, clock)
    texts: dict[str, Text] = {}
    with hold(model, clock):
        prepare_texts(search.sampling, samples, texts)
        with clock.phase("search"):
            return within_memory(
                lambda batch: find(search, batch, texts, None),
                samples,
                lambda sample: Found(torch.zeros(0), error=OUT_OF_MEMORY),
                model,
                ("search", search.sampling.size),
            )


def open_search(
    model: ImageGenerator, settings: SearchEngine, goal: Goal, recording: Recording | None, clock: Clock
) -> Search:
    """Return what the batches of one call share. Errors: RecipeError for a scheduler that adds noise."""
    sampling = prepare_sampling(model, settings, recording, clock)
    require_deterministic(sampling)
    return Search(sampling, goal.encoder, goal.aim, settings, goal.rivals)


def find(search: Search, samples: Sequence[SampleSpec], texts: dict[str, Text], seeds: Seeds | None) -> list[Found]:
    """Choose the noise of every image of a batch by the engine's own method."""
    text = join_conditionings([texts[sample.prompt].conditioning for sample in samples])
    batch, settings = Batch(samples, text, aim_each(search, samples)), search.settings
    # The rivals search without gradients.
    if isinstance(settings, ZeroOrderEngine):
        return zero_order(search, batch, settings)
    if isinstance(settings, BestOfNEngine):
        return best_of_n(search, batch)
    assert isinstance(settings, SeedSelectEngine)

    # Bootstrapped: mix noises that were found before, and only screen the mixes.
    if seeds is not None:
        return screen(
            search, batch, range(settings.mixes), noise=lambda part, numbers: mix(search, part, seeds, numbers)
        )

    # In full: screen fresh noises, then improve the best of each image by gradient.
    found = screen_rounds(search, batch, settings)
    optimise_within_memory(search, batch, settings, found)
    return found


def optimise_within_memory(search: Search, batch: Batch, settings: SeedSelectEngine, found: Sequence[Found]) -> None:
    """Improve the findings in place, in parts of the batch that fit into memory. The screening is kept."""

    def improve(rows: Sequence[int]) -> list[None]:
        optimise(search, batch.take(rows), settings, [found[row] for row in rows])
        return [None] * len(rows)

    def give_up(row: int) -> None:
        found[row].error = OUT_OF_MEMORY

    # Gradients need several times the memory of a screening, so their size is remembered apart.
    sampling = search.sampling
    within_memory(improve, range(len(batch.samples)), give_up, sampling.model, ("gradient", sampling.size))


def mix(search: Search, batch: Batch, seeds: Seeds, numbers: Sequence[int]) -> Tensor:
    """Return one candidate per image, [K, C, H, W]: sqrt(1 - s) found noise + sqrt(s) own noise, s the fresh share.

    Independent normal parts with squared weights that sum to 1 are normal again. So the mix has the norm and the
    statistics that the generator expects; a mean would fall inside the shell.
    """
    settings = search.settings
    assert isinstance(settings, SeedSelectEngine)
    # The sample's name and the number decide which found noise is mixed in.
    draws = []
    for sample, number in zip(batch.samples, numbers, strict=True):
        known = seeds.of(sample.prompt)
        draws.append(known[derive_seed(sample.sample_id, f"mix-{number}") % len(known)])
    fresh = settings.fresh_share
    own = batch.noise(search, numbers)
    mixed: Tensor = ((1 - fresh) ** 0.5 * seeds.noise[draws] + fresh**0.5 * own).to(own.dtype)
    return mixed


def finish(search: Search, sample: SampleSpec, texts: dict[str, Text], found: Found, batch_size: int) -> Rendered:
    """Render one image from its noise and record how the noise was found."""
    if found.error is not None:
        return Rendered(sample.sample_id, found.error, None, None, found.record)

    # Round first: the kept noise and the rendered noise must be the same.
    kept = None if search.settings.searches_nowhere else found.noise.half()
    noise = (found.noise if kept is None else kept).to(search.sampling.model.dtype)
    made = render_alone(search.sampling, sample, texts, noise)
    found.forward += search.calls(search.sampling.settings.steps) * search.branches

    # The record of the search, beside the facts of the rendering.
    provenance = {
        **made.provenance,
        **found.record,
        "candidate": found.candidate,
        "noise_norm": rounded(float(noise.float().norm())),
        "forward_evaluations": found.forward,
        "backward_evaluations": found.backward,
        "search_batch": batch_size,
    }
    if made.pixels is not None:
        provenance |= nearest_reference(search, made.pixels)
    return replace(made, provenance=provenance, noise=None if kept is None else kept.cpu().numpy())


@torch.no_grad()
def nearest_reference(search: Search, pixels: NDArray[np.uint8]) -> dict[str, object]:
    """Return the reference most like an image [H, W, 3], by its place in file-name order, and their cosine."""
    features = search.encoder.embed_pixels(to_tensor(pixels[None], search.aim.units.device))
    cosines = functional.normalize(features, dim=-1) @ search.aim.units.T
    return {"nearest_reference": int(cosines.argmax()), "reference_cosine": rounded(float(cosines.max()))}


def render_kept_noise(
    model: ImageGenerator,
    sample: SampleSpec,
    noise: NDArray[np.float16],
    settings: SearchEngine,
    recording: Recording | None,
    clock: Clock,
) -> Rendered:
    """Render a kept noise [C, H, W] without a search."""
    sampling = prepare_sampling(model, settings, recording, clock)
    texts: dict[str, Text] = {}
    with hold(model, clock):
        prepare_texts(sampling, [sample], texts)
        return render_alone(sampling, sample, texts, torch.from_numpy(noise).to(model.device, model.dtype))


def render_alone(sampling: Sampling, sample: SampleSpec, texts: dict[str, Text], noise: Tensor) -> Rendered:
    """Render one image from its noise [C, H, W], without batch-mates: the noise alone remakes it."""
    generator = torch.Generator("cpu").manual_seed(sample.seed)
    return render_noise(sampling, [sample], texts, noise[None], [generator])[0]
