"""Types and helpers that all searches share: the batch, its noises, and the findings per image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.settings.engines import SearchEngine
from tailforge.tasks.methods.planning.samples import derive_seed
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.sampling.origin import name_scheduler
from tailforge.tasks.methods.sampling.plain import Sampling, prepare_scheduler
from tailforge.tasks.methods.seed_select.aim import Aim, ImageEncoder, choose_references
from tailforge.tasks.methods.seed_select.determinism import check_deterministic


@dataclass(frozen=True)
class Search:
    """Settings and models of all batches of one call. `rivals`: centroids of other concepts [N, D], or None."""

    sampling: Sampling
    encoder: ImageEncoder
    aim: Aim
    settings: SearchEngine
    rivals: Tensor | None = None

    @property
    def branches(self) -> int:
        """Return the rows through the denoiser per image: 2 with guidance."""
        return 1 if self.sampling.negative is None else 2

    def calls(self, steps: int) -> int:
        """Return the network calls of one sampling with this many steps: some schedulers make a few more."""
        return len(prepare_scheduler(self.sampling, steps).timesteps)


@dataclass(frozen=True)
class Batch:
    """Samples with their conditioning [K rows] and targets [K, D]."""

    samples: Sequence[SampleSpec]
    text: Conditioning
    targets: Tensor

    def take(self, rows: Sequence[int]) -> "Batch":
        """Return the batch of some of its rows."""
        # Conditioning and targets follow their samples.
        places, pooled = list(rows), self.text.pooled
        text = Conditioning(self.text.embeds[places], None if pooled is None else pooled[places])
        return Batch([self.samples[row] for row in places], text, self.targets[places])

    def noise(self, search: Search, numbers: Sequence[int]) -> Tensor:
        """Return one candidate per image by its number, [K, C, H, W]; number 0 is the noise of plain sampling."""
        shape = search.sampling.model.latent_shape(*search.sampling.size)
        return draw(search, list(map(candidate_seed, self.samples, numbers)), shape)


@dataclass
class Found:
    """The noise [C, H, W] chosen for one image, and its search, counted in network rows and steps.

    After a screening, `score` is the cosine of the chosen noise's features with the target. `plain_scores` are the
    finite scores of all candidates after few steps. `done`: more search gains nothing.
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
        """Return the prompt's score without a choice: the mean over its candidates; None without any."""
        return sum(self.plain_scores) / len(self.plain_scores) if self.plain_scores else None


def rounded(value: float | None) -> float | None:
    """Round to six digits, which equal runs agree on; a value that is not finite becomes None."""
    return None if value is None or not math.isfinite(value) else round(value, 6)


def candidate_seed(sample: SampleSpec, number: int) -> int:
    """Return the seed of one candidate noise of a sample."""
    return sample.seed if number == 0 else derive_seed(sample.sample_id, f"candidate-{number}")


def draw(search: Search, seeds: Sequence[int], shape: tuple[int, int, int]) -> Tensor:
    """Draw standard normal noise [K, C, H, W], one CPU generator per seed."""
    # Drawn on the CPU, so that a seed means the same noise on every device.
    model = search.sampling.model
    rows = [torch.randn((1, *shape), generator=torch.Generator("cpu").manual_seed(s), dtype=model.dtype) for s in seeds]
    return torch.cat(rows).to(model.device)


def aim_each(search: Search, samples: Sequence[SampleSpec]) -> Tensor:
    """Return the targets [K, D]: each image aims at its own references, chosen by its sample_id."""
    # Images of one batch may aim at different references.
    aim, settings = search.aim, search.settings
    rows = []
    for sample in samples:
        # The sample's name alone decides its references, in any batch.
        generator = torch.Generator("cpu").manual_seed(derive_seed(sample.sample_id, "references"))
        chosen = choose_references(len(aim.references), settings.references_per_image, generator)
        rows.append(aim.target(chosen, settings.target))
    return torch.stack(rows)


def require_deterministic(sampling: Sampling) -> None:
    """Check that the scheduler adds no noise on the way, so that the image follows from the noise.

    Errors: RecipeError for a scheduler that adds noise.
    """
    scheduler = sampling.model.make_scheduler(sampling.settings.scheduler)
    check_deterministic(name_scheduler(scheduler), scheduler.config)
