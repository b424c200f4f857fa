"""Turn a finished slot into images: saved pixels, the teacher's verdict on them, and their provenance."""

from typing import Any

import torch
from torch import Tensor

from tailforge.tasks.methods.natural_inversion.contract import Inverted
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.methods.natural_inversion.slots import Slot
from tailforge.tasks.methods.natural_inversion.taps import Probe


@torch.no_grad()
def finish_slot(slot: Slot, probe: Probe, scale: PixelScale, version: str) -> list[Inverted]:
    """Return the images of one batch; a batch without a finite loss gives failed ones."""
    # The provenance: the batch's share first, then the sample's.
    common = {
        "method": version,
        "batch_seed": slot.batch.seed,
        "batch_size": len(slot.batch.labels),
        "steps": slot.step,
        "mean": scale.mean.flatten().tolist(),
        "std": scale.std.flatten().tolist(),
    }
    whys = [common | {"seed": seed, "place": place} for place, seed in enumerate(slot.batch.seeds)]

    # No candidate was ever finite: the whole batch fails.
    if not slot.best.losses["total"].isfinite():
        text = (
            f"the loss is no finite number in any of the candidates scored in {slot.step} steps; lower the learning "
            "rates, or check that the teacher's weights are finite"
        )
        return [_failed(label, text, why) for label, why in zip(slot.batch.labels, whys, strict=True)]
    return _measure(slot, probe, scale, whys)


def _measure(slot: Slot, probe: Probe, scale: PixelScale, whys: list[dict[str, Any]]) -> list[Inverted]:
    # The teacher judges the images twice: before rounding to 8 bits and after.
    best = slot.best
    pixels = scale.to_pixels(best.images)
    raw = probe(best.images.unsqueeze(1)).logits[:, 0]
    saved = probe(scale.from_pixels(pixels).unsqueeze(1)).logits[:, 0]

    # An image is sound if its pixels and the teacher's logits are finite.
    sound = (best.images.flatten(1).isfinite().all(1) & saved.isfinite().all(1)).tolist()
    agrees, agrees_saved = (_agreement(logits, slot.labels) for logits in (raw, saved))
    losses = {name: float(value) for name, value in best.losses.items()}
    logits = saved.float().cpu().numpy()
    alphas = None if best.alpha is None else best.alpha.tolist()

    # A row per image; one that is not sound fails alone.
    made = []
    for place, (label, why) in enumerate(zip(slot.batch.labels, whys, strict=True)):
        if not sound[place]:
            made.append(_failed(label, "the image or the teacher's logits on it hold values that are not finite", why))
            continue
        alpha = None if alphas is None else tuple(alphas[place])
        made.append(Inverted(label, pixels[place], logits[place], alpha, losses, agrees[place], agrees_saved[place],
                             int(best.step), why))  # fmt: skip
    return made


def _agreement(logits: Tensor, labels: Tensor) -> list[bool]:
    agreement: list[bool] = (logits.argmax(1) == labels).tolist()
    return agreement


def _failed(label: int, error: str, why: dict[str, Any]) -> Inverted:
    return Inverted(label, None, None, None, None, None, None, None, why, error)
