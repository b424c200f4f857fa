"""Search noise without gradients: fair rivals, and a way for generators that cannot be differentiated."""

import torch
from torch import Tensor

from tailforge.schemas.settings.engines import ZeroOrderEngine
from tailforge.tasks.methods.planning.samples import derive_seed
from tailforge.tasks.methods.seed_select.screening import score_noise, screen
from tailforge.tasks.methods.seed_select.search import Batch, Found, Search, draw


def best_of_n(search: Search, batch: Batch) -> list[Found]:
    """Return the best of the engine's `candidates` noises for every image."""
    # No search beyond the screening of independent noises.
    return screen(search, batch, range(search.settings.candidates))


@torch.no_grad()
def zero_order(search: Search, batch: Batch, settings: ZeroOrderEngine) -> list[Found]:
    """Take the best of a few noises, then per round the best of it and its neighbours (arXiv 2501.09732).

    A neighbour of z with norm n and direction u is n (c u + sqrt(1 - c^2) w), w a random unit vector orthogonal to u.
    """
    # The pivot of the first round: the best of a few candidates.
    found = screen(search, batch, range(settings.candidates))
    best = torch.stack([each.noise for each in found])
    looks, few = settings.rounds * settings.neighbours, search.settings.few_steps
    if settings.candidates == 1:  # a single candidate was not screened
        scores, looks = score_noise(search, batch, best, few), looks + 1
    else:
        scores = batch.targets.new_tensor([each.score for each in found])

    # Neighbours around the pivot; a new round moves the pivot to the best noise so far.
    for number in range(settings.rounds * settings.neighbours):
        if number % settings.neighbours == 0:
            pivot = best.clone()
        seeds = [derive_seed(sample.sample_id, f"neighbour-{number}") for sample in batch.samples]
        shape = (pivot.shape[1], pivot.shape[2], pivot.shape[3])
        rival = neighbour(pivot, draw(search, seeds, shape), settings.cosine)
        seen = score_noise(search, batch, rival, few).to(scores.dtype)
        better = seen > scores
        best[better], scores[better] = rival[better], seen[better]

    # Write back the best noise of every image, and count the network calls.
    for each, noise in zip(found, best, strict=True):
        each.noise = noise
        each.forward += looks * search.calls(few) * search.branches
    return found


def neighbour(noise: Tensor, direction: Tensor, cosine: float) -> Tensor:
    """Return noise [K, C, H, W] of equal norm at the given cosine from `noise`, towards the random `direction`."""
    # The norm stays, as the sampler expects noise of this length.
    radius = noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    unit = noise / radius
    # w: the part of the direction orthogonal to the noise.
    across = direction - (direction * unit).flatten(1).sum(1).view(-1, 1, 1, 1) * unit
    across = across / across.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    moved: Tensor = radius * (cosine * unit + (1 - cosine**2) ** 0.5 * across)
    return moved
