"""Screen many noises without gradients and keep the best.

Few denoising steps cost a part of an image, but rank noises less well than all steps. So a round screens all
candidates with few steps, and only the best of them, the finalists, with all steps. A good enough image leaves; only
the others have further rounds. All of this is our choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from tailforge.schemas.settings.engines import SeedSelectEngine
from tailforge.tasks.methods.sampling.plain import prepare_scheduler, sample_latents
from tailforge.tasks.methods.sampling.rendered import cut_batches
from tailforge.tasks.methods.seed_select.aim import embed_views
from tailforge.tasks.methods.seed_select.search import Batch, Found, Search, rounded

WORST = -2.0  # the score of an image that is not finite: below any cosine
Noise = Callable[[Batch, Sequence[int]], Tensor]  # returns one candidate per image of a batch by its number


@torch.no_grad()
def score_noise(search: Search, batch: Batch, noise: Tensor, steps: int, views: int = 1) -> Tensor:
    """Return the cosine [K] of each image's features, mean over views, with its target, after `steps` steps."""
    sampling = search.sampling
    # Fewer steps are cheaper and rank less well.
    scheduler = prepare_scheduler(sampling, steps)
    guidance = sampling.settings.guidance
    # Sample with few or all steps, decode, and compare with the target.
    latents = sample_latents(sampling.model, scheduler, noise, batch.text, sampling.negative, guidance, ())
    images = sampling.model.decode(latents).float()
    scores = (embed_views(search.encoder, images.clamp(-1, 1), views) * batch.targets).sum(-1)
    finite = images.isfinite().flatten(1).all(1) & scores.isfinite()  # clamping would hide an overflow
    return scores.where(finite, WORST)


def screen(
    search: Search,
    batch: Batch,
    numbers: range,
    finalists: int = 1,
    views: int = 1,
    noise: Noise | None = None,
    at_once: int = 0,
) -> list[Found]:
    """Return the best of the candidates with these numbers for every image.

    All are scored with few denoising steps, then the best `finalists` of each image with all steps and by `views`. Each
    pass takes `at_once` rows, by default as many as there are images. By default the candidates are the images' own;
    number 0 is the plain noise.
    """
    draw = noise or (lambda part, chosen: part.noise(search, chosen))
    few, steps, size = search.settings.few_steps, search.sampling.settings.steps, len(batch.samples)
    if len(numbers) == 1:  # a single candidate needs no screening
        return [Found(row, numbers[0]) for row in draw(batch, [numbers[0]] * size)]

    def look(chosen: Sequence[Sequence[int]], after: int, views: int) -> Tensor:
        """Return scores [len(chosen), K] of one candidate per image, for one choice after another."""
        pairs = [(row, number) for own in chosen for row, number in enumerate(own)]
        scores = []
        for chunk in cut_batches(pairs, max(at_once, size)):
            part = batch.take([row for row, _ in chunk])
            scores.append(score_noise(search, part, draw(part, [number for _, number in chunk]), after, views))
        return torch.cat(scores).reshape(len(chosen), size)

    # First stage: every candidate with few steps.
    scores = look([[number] * size for number in numbers], few, 1)
    forward = len(numbers) * search.calls(few)
    plain = [tuple(score for score in own if score > WORST) for own in scores.T.tolist()]
    best, order = scores.sort(stable=True, dim=0, descending=True)

    # Second stage: the finalists of each image with all steps.
    if (finalists := min(finalists, len(numbers))) > 1:
        forward += finalists * search.calls(steps)
        looked = look([[numbers[place] for place in places] for places in order[:finalists].tolist()], steps, views)
        best, places = looked.sort(stable=True, dim=0, descending=True)
        order = order.gather(0, places)

    # The winner of every image, with the scores of its rivals for the confidence.
    chosen = [numbers[place] for place in order[0].tolist()]
    rows = zip(draw(batch, chosen), chosen, best[0].tolist(), plain, strict=True)
    return [Found(*row, forward=forward * search.branches) for row in rows]


def screen_rounds(search: Search, batch: Batch, settings: SeedSelectEngine) -> list[Found]:
    """Screen rounds of candidates until an image's best is as confident as `stop` asks; see aim.py."""
    if settings.candidates == 1:
        return screen(search, batch, range(1))
    # Confidence is measured in units of this gap.
    gap = search.aim.gap(settings.target)
    found: list[Found | None] = [None] * len(batch.samples)
    for number in range(settings.rounds):
        rows = [row for row, each in enumerate(found) if each is None or not each.done]
        if not rows:
            break
        numbers = range(number * settings.candidates, (number + 1) * settings.candidates)
        # Images that are done make room for more candidates of the others: every round is as wide as the first.
        fresh = screen(
            search, batch.take(rows), numbers, settings.finalists, settings.views, at_once=len(batch.samples)
        )
        for row, new in zip(rows, fresh, strict=True):
            found[row] = better = join(found[row], new)
            note_confidence(better, settings, gap)
    return cast(list[Found], found)


def join(before: Found | None, new: Found) -> Found:
    """Return the better of the finding before and the finding of a further round."""
    if before is None:
        return new
    assert before.score is not None
    assert new.score is not None
    # The better noise, with the scores and costs of both rounds.
    better = new if new.score > before.score else before
    return replace(
        better,
        plain_scores=before.plain_scores + new.plain_scores,
        forward=before.forward + new.forward,
        record=dict(better.record),
    )


def note_confidence(found: Found, settings: SeedSelectEngine, gap: float) -> None:
    """Record the confidence, and whether it suffices."""
    found.record |= {"iterations": 0, "stop_reason": "rounds"}
    if settings.stop is None or found.score is None or found.plain_score is None:
        return
    # 0 for the prompt's own mean, 1 for the distance of a mean reference.
    confidence = (found.score - found.plain_score) / gap
    found.record["confidence"] = rounded(confidence)
    if confidence >= settings.stop:
        found.done = True
        found.record["stop_reason"] = "confident"
