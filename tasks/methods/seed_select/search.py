"""What all searches share: the batch at hand, its noises, and what was found for each image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.settings.engines import SearchEngine
from tailforge.tasks.methods.planning.samples import derive_seed
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.sampling.plain import Sampling, prepare_scheduler
from tailforge.tasks.methods.seed_select.aim import Aim, ImageEncoder, choose_references

VERSION = "search.2"  # of what all engines that search do; another number makes their images anew

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

    def take(self, rows: Sequence[int]) -> "Batch":
        """Some of its rows."""
        places, pooled = list(rows), self.text.pooled
        text = Conditioning(self.text.embeds[places], None if pooled is None else pooled[places])
        return Batch([self.samples[row] for row in places], text, self.targets[places])

    def noise(self, search: Search, numbers: Sequence[int]) -> Tensor:
        """One candidate of every image by its number [K, C, H, W]; 0 is the noise that plain sampling would take."""
        shape = search.sampling.model.latent_shape(*search.sampling.size)
        return draw(search, list(map(candidate_seed, self.samples, numbers)), shape)


@dataclass
class Found:
    """The noise [C, H, W] chosen for one image, and how it was found, in numbers of network rows and of steps.

    Where noises were screened: `score` is the cosine of the chosen one's features with the target, `plain_scores` are
    those of all candidates after few steps, as far as finite. `done`: nothing more is to be gained.
    """

    noise: Tensor
    candidate: int = 0
    score: float | None = None
    plain_scores: tuple[float, ...] = ()
    done: bool = False
    record: dict[str, Any] = field(default_factory=dict)
    forward: int = 0
    backward: int = 0
    error: str | None = None

    @property
    def plain_score(self) -> float | None:
        """What the image's prompt gives without a choice: the mean over its candidates; None without any."""
        return sum(self.plain_scores) / len(self.plain_scores) if self.plain_scores else None


def rounded(value: float | None) -> float | None:
    """Six digits are what equal runs agree on; what is not finite is unknown."""
    return None if value is None or not math.isfinite(value) else round(value, 6)


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
