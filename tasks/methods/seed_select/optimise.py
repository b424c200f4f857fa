"""Optimise the noise of a batch by gradient steps. Each image has its own state; finished images leave the batch.

    x = G(z);   L = a sum_j w_j (1 - cos(E(dec(x_j)), t)) + b mean((x - mu_z)^2) [+ contrast] [+ repulsion]

The published optimiser is AdamW on z. Ours moves z by a fixed angle, against the part of the gradient that is tangent
to the sphere of its norm. So a step is independent of the loss's scale, and z keeps the norm of the training noise:
the norm of d normal numbers is close to sqrt(d).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tailforge.schemas.settings.engines import SeedSelectEngine
from tailforge.schemas.under_way import tell
from tailforge.tasks.methods.sampling.plain import NOT_FINITE, prepare_scheduler, walk_steps
from tailforge.tasks.methods.seed_select.aim import embed_views
from tailforge.tasks.methods.seed_select.gradient import predict_with_gradient, run
from tailforge.tasks.methods.seed_select.search import Batch, Found, Search, rounded

LOSS_SCALE = 1024.0  # keeps half-precision derivatives above underflow; a power of two, so nothing is rounded
FAST_STEPS = 3  # the published rate is ten times larger for as many steps
TEMPERATURE = 0.07  # of the contrast term; ours


@dataclass
class Track:
    """The state of one image: its noise, the best so far, why it ended. `plain_score`: see search.Found."""

    row: int
    noise: Tensor
    best: Tensor
    optimizer: torch.optim.AdamW | None
    plain_score: float
    loss: float = math.inf
    semantic: float = math.inf
    confidence: float | None = None
    steps: int = 0
    slopes: int = 0
    evaluations: int = 0
    stale: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class Looked:
    """Losses [K] and their semantic part [K], and scores by several views [K] or None."""

    losses: Tensor
    semantic: Tensor
    scores: Tensor | None


def optimise(search: Search, batch: Batch, settings: SeedSelectEngine, found: Sequence[Found]) -> None:
    """Improve the findings in place. An image gets an error if its loss is never finite."""
    if settings.iterations == 0:
        return
    # Images that screening found good enough are left alone.
    tracks = [start(search, batch, settings, row, each) for row, each in enumerate(found) if not each.done]
    gap = search.aim.gap(settings.target)

    # The last round only evaluates: every step is followed by a look at its result.
    for iteration in range(settings.iterations + 1):
        tell("iteration", iteration, settings.iterations)
        active = [track for track in tracks if track.reason is None]
        if not active:
            break
        last = iteration == settings.iterations
        noise = torch.stack([track.noise.detach() for track in active]).requires_grad_(not last)
        with torch.set_grad_enabled(not last):
            looked = look(search, batch.take([track.row for track in active]), settings, noise)

        # Note each image's loss before its noise moves.
        for track, (loss, semantic, score) in zip(active, rows_of(looked), strict=True):
            observe(track, settings, loss, semantic, None if score is None else (score - track.plain_score) / gap)
        if not last and any(track.reason is None for track in active):
            finite = looked.losses.isfinite()
            # One image's infinite loss must not spoil the gradients of the others.
            (gradient,) = torch.autograd.grad(looked.losses[finite].sum() * LOSS_SCALE, noise)
            gradient = gradient / LOSS_SCALE
            for track, slope in zip(active, gradient, strict=True):
                track.slopes += 1  # one that ends here was in the batch all the same
                if track.reason is None:
                    move(track, settings, slope)

    # Write every outcome back, also of images that stopped early.
    for track in tracks:
        conclude(search, settings, track, found[track.row])


def start(search: Search, batch: Batch, settings: SeedSelectEngine, row: int, found: Found) -> Track:
    """Return the state before the first step."""
    # Optimise in single precision at least, on a copy of the screened noise.
    leaf = found.noise.detach().to(torch.promote_types(found.noise.dtype, torch.float32)).clone()
    adamw = torch.optim.AdamW([leaf], lr=settings.step_size) if settings.optimizer == "adamw" else None
    plain = found.plain_score
    if plain is None:
        plain = float(search.aim.plain_mean @ batch.targets[row])
    return Track(row, leaf, leaf.clone(), adamw, plain)


def look(search: Search, batch: Batch, settings: SeedSelectEngine, noise: Tensor) -> Looked:
    """Make the images of `noise` [K, C, H, W] and return their losses [K], differentiable in `noise`."""
    # Sample and decode; only the last steps with a weight are looked at.
    sampling, encoder = search.sampling, search.encoder
    start_from = noise.to(sampling.model.dtype)
    scheduler = prepare_scheduler(sampling, sampling.settings.steps)
    predict = predict_with_gradient(sampling, scheduler, batch.text, settings)
    skipped = len(scheduler.timesteps) - len(settings.last_steps)
    semantic = torch.zeros(len(noise), device=noise.device)
    latents = images = features = noise

    # Semantic term: sum_j w_j (1 - cos(E(dec(x_j)), t)).
    for number, latents in enumerate(walk_steps(scheduler, start_from, predict)):
        if number >= skipped and (weight := settings.last_steps[number - skipped]):
            images = run(sampling.model.decode, latents, keep=not settings.checkpointing)
            images = images.to(torch.promote_types(images.dtype, torch.float32))
            features = functional.normalize(encoder.embed_pixels(images.clamp(-1, 1)), dim=-1)
            semantic = semantic + weight * (1 - (features * batch.targets).sum(-1))

    # Appearance term: distance to the references' mean latent.
    losses = settings.semantic_weight * semantic
    if settings.appearance_weight:
        distance = (latents.to(semantic.dtype) - search.aim.latents.to(semantic.dtype)).square().flatten(1).mean(1)
        losses = losses + settings.appearance_weight * distance

    # Contrast: the concept's own centroid against those of rival concepts (ours).
    if settings.contrast_weight and search.rivals is not None:
        own = (features * functional.normalize(search.aim.units.mean(0), dim=-1)).sum(-1, keepdim=True)
        cosines = torch.cat([own, features @ search.rivals.T], dim=1)
        losses = losses - settings.contrast_weight * functional.log_softmax(cosines / TEMPERATURE, dim=1)[:, 0]

    # Repulsion: images of a batch should not look alike.
    if settings.repulsion_weight and len(noise) > 1:
        others = features.detach().nan_to_num(0.0)  # one that failed repels nobody
        likeness = (features @ others.T).fill_diagonal_(0).sum(1) / (len(noise) - 1)
        losses = losses + settings.repulsion_weight * likeness
    return Looked(losses, semantic.detach(), score_views(search, batch, settings, images))


@torch.no_grad()
def score_views(search: Search, batch: Batch, settings: SeedSelectEngine, images: Tensor) -> Tensor | None:
    """Return the cosine [K] with the target, mean over views of images [K, 3, H, W]; None without a stop rule."""
    if settings.stop is None:
        return None
    # Several views make it harder to fool the encoder.
    features = embed_views(search.encoder, images.detach().clamp(-1, 1), settings.views)
    return (features * batch.targets).sum(-1)


def rows_of(looked: Looked) -> list[tuple[float, float, float | None]]:
    """Return (loss, semantic, score) of every image."""
    scores = [None] * len(looked.losses) if looked.scores is None else looked.scores.tolist()
    return list(zip(looked.losses.tolist(), looked.semantic.tolist(), scores, strict=True))


def observe(track: Track, settings: SeedSelectEngine, loss: float, semantic: float, sure: float | None) -> None:
    """Record an evaluation: keep the noise if it is best or good enough, and end the search if a rule says so."""
    track.evaluations += 1
    if not math.isfinite(loss):
        track.reason = "not_finite"
        return

    # The best noise so far; a confident one is kept even with a higher loss.
    done = settings.stop is not None and sure is not None and sure >= settings.stop
    if loss < track.loss or done:
        track.loss, track.semantic, track.confidence, track.stale = loss, semantic, sure, 0
        track.best = track.noise.detach().clone()
    else:
        track.stale += 1

    # Rules that end the search.
    if done:
        track.reason = "confident"
    elif settings.patience is not None and track.stale >= settings.patience:
        track.reason = "no_better"
    elif track.steps == settings.iterations:
        track.reason = "iterations"


def move(track: Track, settings: SeedSelectEngine, gradient: Tensor) -> None:
    """Move the track's noise [C, H, W] by one step."""
    # The published schedule: a larger rate for the first steps.
    late = track.steps >= FAST_STEPS and settings.later_step_size is not None
    size = settings.later_step_size if late and settings.later_step_size is not None else settings.step_size
    track.steps += 1
    if not gradient.isfinite().all():
        track.reason = "not_finite"
    elif track.optimizer is None:
        track.noise = step_on_shell(track.noise, gradient, size)
    else:
        track.optimizer.param_groups[0]["lr"] = size
        track.noise.grad = gradient
        track.optimizer.step()


def step_on_shell(noise: Tensor, gradient: Tensor, size: float) -> Tensor:
    """Return `noise` moved by `size` of its norm against the gradient's tangential part [C, H, W], its norm kept."""
    radius = noise.norm()
    # Only the tangential part changes the direction; the radial part would change the norm.
    outward = noise / radius
    tangent = gradient - (gradient * outward).sum() * outward
    length = tangent.norm()
    if length == 0:
        return noise

    # Step along the tangent, then return to the sphere.
    moved = noise - size * radius * tangent / length
    kept: Tensor = moved * (radius / moved.norm())
    return kept


def conclude(search: Search, settings: SeedSelectEngine, track: Track, found: Found) -> None:
    """Write the outcome of a track into its finding."""
    # Count network calls: evaluations forward, slopes backward, recomputed activations forward again.
    steps, branches = search.calls(search.sampling.settings.steps), search.branches
    differentiated = min(settings.grad_steps or steps, steps) * (branches if settings.unconditional_gradient else 1)
    found.noise = track.best
    found.forward += track.evaluations * steps * branches + track.slopes * differentiated * settings.checkpointing
    found.backward += track.slopes * differentiated
    found.error = NOT_FINITE if math.isinf(track.loss) else None
    found.record |= {
        "iterations": track.steps,
        "stop_reason": track.reason,
        "loss": rounded(track.loss),
        "semantic_loss": rounded(track.semantic),
        "confidence": rounded(track.confidence),
    }
