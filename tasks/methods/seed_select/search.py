"""What all searches share: the batch at hand, few-step images of many noises, and what was found for each image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from schemas.engines import SearchEngine
from schemas.errors import RecipeError
from schemas.jobs import SampleSpec
from tasks.methods.generator import Conditioning
from tasks.methods.plain_sampling import Sampling, prepare_scheduler, sample_latents
from tasks.methods.plan_samples import derive_seed
from tasks.methods.seed_select.aim import Aim, ImageEncoder, choose_references

# Schedulers of diffusers whose steps add no noise: the image follows from the first noise alone.
DETERMINISTIC = (
    "DDIMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)


@dataclass(frozen=True)
class Search:
    """What the batches of one call share. `rivals`: centroids of the recipe's other concepts [N, D], or None."""

    sampling: Sampling
    encoder: ImageEncoder
    aim: Aim
    settings: SearchEngine
    rivals: Tensor | None = None

    @property
    def branches(self) -> int:
        """Rows through the denoiser for one image: 2 with guidance."""
        return 1 if self.sampling.negative is None else 2

    def calls(self, steps: int) -> int:
        """Network calls of one sampling with so many steps: some schedulers make a few more."""
        return len(prepare_scheduler(self.sampling, steps).timesteps)


@dataclass(frozen=True)
class Batch:
    """Samples with their conditioning [K rows] and targets [K, D]."""

    samples: Sequence[SampleSpec]
    text: Conditioning
    targets: Tensor

    def noise(self, search: Search, number: int) -> Tensor:
        """Candidate `number` of every image [K, C, H, W]; number 0 is the noise that plain sampling would take."""
        shape = search.sampling.model.latent_shape(*search.sampling.size)
        return draw(search, [candidate_seed(sample, number) for sample in self.samples], shape)


@dataclass
class Found:
    """The noise [C, H, W] chosen for one image, and how it was found, in numbers of network rows and of steps."""

    noise: Tensor
    candidate: int = 0
    record: dict[str, Any] = field(default_factory=dict)
    forward: int = 0
    backward: int = 0
    error: str | None = None


def candidate_seed(sample: SampleSpec, number: int) -> int:
    """Seed of one candidate noise of a sample."""
    return sample.seed if number == 0 else derive_seed(sample.sample_id, f"candidate-{number}")


def draw(search: Search, seeds: Sequence[int], shape: tuple[int, int, int]) -> Tensor:
    """Standard normal noise [K, C, H, W], one CPU generator a seed."""
    model = search.sampling.model
    rows = [torch.randn((1, *shape), generator=torch.Generator("cpu").manual_seed(s), dtype=model.dtype) for s in seeds]
    return torch.cat(rows).to(model.device)


def aim_each(search: Search, samples: Sequence[SampleSpec]) -> Tensor:
    """Targets [K, D]: each image aims at its own references, chosen by its sample_id."""
    aim, settings = search.aim, search.settings
    rows = []
    for sample in samples:
        generator = torch.Generator("cpu").manual_seed(derive_seed(sample.sample_id, "references"))
        chosen = choose_references(len(aim.references), settings.references_per_image, generator)
        rows.append(aim.target(chosen, settings.target))
    return torch.stack(rows)


@torch.no_grad()
def score_noise(search: Search, batch: Batch, noise: Tensor) -> Tensor:
    """Cosine [K] of each image's features with its target, after few denoising steps."""
    sampling = search.sampling
    scheduler = prepare_scheduler(sampling, search.settings.few_steps)
    guidance = sampling.settings.guidance
    latents = sample_latents(sampling.model, scheduler, noise, batch.text, sampling.negative, guidance, ())
    features = search.encoder.embed_pixels(sampling.model.decode(latents).float())
    scores = (functional.normalize(features, dim=-1) * batch.targets).sum(-1)
    return scores.nan_to_num(-2.0)  # an image that is not finite is worse than any


def screen(
    search: Search, batch: Batch, count: int, noise: Callable[[int], Tensor] | None = None
) -> tuple[list[Found], Tensor]:
    """The best of `count` noises for every image, with its scores [K].

    `noise(j)` gives the j-th of each; by default the images' own candidates, of which the first is the plain noise.
    """
    noise = noise or (lambda number: batch.noise(search, number))
    best = noise(0)
    if count == 1:
        return [Found(row) for row in best], torch.full((len(best),), -2.0, device=best.device)
    scores, numbers = score_noise(search, batch, best), [0] * len(best)
    for number in range(1, count):
        rival = noise(number)
        found = score_noise(search, batch, rival)
        for row in torch.nonzero(found > scores).flatten().tolist():
            best[row], scores[row], numbers[row] = rival[row], found[row], number
    forward = count * search.calls(search.settings.few_steps) * search.branches
    return [Found(row, number, forward=forward) for row, number in zip(best, numbers, strict=True)], scores


def require_deterministic(sampling: Sampling) -> None:
    """Errors: RecipeError for a scheduler that adds noise on the way: its image would not follow from the noise."""
    scheduler = sampling.model.make_scheduler(sampling.settings.scheduler)
    check_deterministic(type(scheduler).__name__, str(scheduler.config.get("algorithm_type", "")))


def check_deterministic(name: str, algorithm: str) -> None:
    """The same for a scheduler's class name and the `algorithm_type` of its configuration."""
    if name not in DETERMINISTIC or algorithm.startswith("sde"):
        raise RecipeError(
            f"engine.scheduler: the generator's own scheduler is {name}, which adds noise while it samples; a search "
            "needs one that does not, set engine.scheduler to ddim or dpmsolver++"
        )
