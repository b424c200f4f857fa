"""Planted faults: is the patch found, and is the region mended? See primitives.py.

A fault changes the layer's feature in one patch: noise on its cells, of a stated number of each channel's spreads; the
patch's own component three times as strong; or that of another sample in its place. The last two are made of what the
method itself takes apart, which favours it.

The region given to tracing and repair is a box of about two by two patches somewhere about the fault, so it tells
roughly where something is wrong. Only patches that meet it are analysed, at order two. The repair sees the artifact
score alone; the picture without the fault is for measuring.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailforge.tasks.methods.regional_primitives.baselines import map_gradient
from tailforge.tasks.methods.regional_primitives.decompose import DecomposeSettings, decompose
from tailforge.tasks.methods.regional_primitives.defects import score_artifacts
from tailforge.tasks.methods.regional_primitives.demands import Subject, draw_subject
from tailforge.tasks.methods.regional_primitives.fields import measure_effects
from tailforge.tasks.methods.regional_primitives.inpaint import InpaintSettings, redraw
from tailforge.tasks.methods.regional_primitives.patches import FLAT
from tailforge.tasks.methods.regional_primitives.repair import Attempt, Repair, RepairSettings, repair_region
from tailforge.tasks.methods.regional_primitives.trace import box_region, trace_region
from tailforge.tasks.models.explained_generator import explain_decoder
from tailforge.tasks.models.unet_generator import UNetGenerator
from tests.benchmarks.primitives.measures import draw, factorise, random_directions, rank_by_blame
from tests.benchmarks.primitives.subjects import GRID, LAYER

NOISES = {"noise_1": 1.0, "noise_2": 2.0, "noise_4": 4.0}  # spreads of each channel
KINDS = (*NOISES, "tripled", "replaced")
BOX = 22  # pixels of the region's side; a patch has ten or eleven
BLAMED = 8  # changes that a repair may turn, as in tasks/methods/regional_primitives/explain
REDRAWN = 3  # pictures that inpainting may try
CONTROLLED = 5  # faults that the costly controls are tried on
NOT_FOUND = 0


@dataclass(frozen=True)
class Fault:
    """A subject whose feature is spoiled, the picture without the fault, and where the fault lies."""

    subject: Subject
    clean: Tensor
    image: Tensor
    origin: Tensor
    change: Tensor
    patch: int
    region: Tensor  # [H, W]
    kind: str

    @property
    def met(self) -> list[int]:
        """Patches that meet the region and change."""
        return patches_of(self.subject, self.region)


def patches_of(subject: Subject, region: Tensor) -> list[int]:
    energies = draw_subject(subject, GRID).energies.sqrt()
    inside = GRID.pool(region[None].float())[0] > 0
    return [int(patch) for patch in torch.nonzero(inside & (energies >= FLAT * energies.max()))[:, 0]]


def plant(subject: Subject, other: Subject, number: int) -> Fault:
    """The fault of that number; kinds in turn. `other`: a subject of another sample."""
    rng, kind = np.random.default_rng((4200, number)), KINDS[number % len(KINDS)]
    patch = int(rng.integers(GRID.count))
    cells = GRID.numbers() == patch
    spots = torch.nonzero(cells)
    sides = zip(spots.min(0).values.tolist(), spots.max(0).values.tolist(), (GRID.height, GRID.width), strict=True)
    top, left = (int(rng.integers(max(0, last + 1 - BOX), min(first, size - BOX) + 1)) for first, last, size in sides)
    region = box_region(GRID, left, top, left + BOX, top + BOX)
    if kind in NOISES:
        noise = torch.randn(subject.feature.shape, generator=torch.Generator().manual_seed(number))
        change = noise * subject.spread * NOISES[kind] * cells
    elif kind == "tripled":
        change = 2 * find_component(subject, patch, region)
    else:
        change = find_component(other, patch, region) - find_component(subject, patch, region)
    spoiled = Subject(subject.tail, subject.feature + change, subject.baseline, subject.spread)
    image, clean, origin = (draw(subject, of) for of in (spoiled.feature, subject.feature, subject.baseline))
    return Fault(spoiled, clean, image, origin, change, patch, region, kind)


def find_component(subject: Subject, patch: int, region: Tensor) -> Tensor:
    """Df of one patch, [1, C, h, w]."""
    players = sorted({patch, *patches_of(subject, region)})
    found = decompose(subject, GRID, DecomposeSettings(order=1), players)
    return found.changes[found.fields.index((patch,))][None]


def measure_fault(
    model: UNetGenerator, prompt: str, fault: Fault, number: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """All figures of one fault, and the pictures."""
    started = time.process_time()
    changes, _, ranks = trace_ours(fault)
    traced = time.process_time() - started
    repairs, pictures = {}, {"clean": fault.clean, "fault": fault.image}
    generator = torch.Generator().manual_seed(number)
    parts, part_rank = trace_parts(fault)
    cells, cell_ranks = trace_gradient(fault)
    routes: dict[str, Callable[[], Repair]] = {
        "ours": lambda: mend(model, fault, changes),
        "ours/no_anchor": lambda: mend(model, fault, changes, anchored=False),
        "explain": lambda: mend(model, fault, changes, inpaint(model, prompt, fault, number), of=("*",)),
        "gradient_map": lambda: mend(model, fault, cells),
        "inpainting": lambda: mend(model, fault, changes[:0], inpaint(model, prompt, fault, number), of=("inpaint",)),
        "reconstruction": lambda: mend(model, fault, changes[:0], of=("anchor",)),
    }
    if number < CONTROLLED:
        routes["ours/first"] = lambda: mend(model, fault, changes[:1])
        routes["random_direction"] = lambda: mend(model, fault, random_directions(fault.subject, changes, generator))
        routes["nmf"] = lambda: mend(model, fault, parts)
    for arm, repair in routes.items():
        started = time.process_time()
        made = repair()
        repairs[arm] = judge(fault, made) | {"seconds": time.process_time() - started}
        pictures[arm] = made.taken.image
    ranks |= cell_ranks | {"nmf": part_rank, "artifacts": rank_artifacts(model, fault)}
    found = {
        "fault": fault.kind,
        "patch": fault.patch,
        "patches": len(fault.met),
        "ranks": ranks,
        "seconds_traced": traced,
        "repairs": repairs,
    }
    return found, pictures


def trace_ours(fault: Fault) -> tuple[Tensor, list[tuple[int, ...]], dict[str, int]]:
    """The components to turn [8, C, h, w], their patches, and where the spoiled patch's own stands."""
    found = decompose(fault.subject, GRID, DecomposeSettings(order=2), fault.met)
    chosen = [int(row) for row in found.salient]
    traced = trace_region(measure_effects(fault.subject, found, chosen), fault.region)
    fields = [found.fields[chosen[each.row]] for each in traced]
    singles = [field for field in fields if len(field) == 1]
    blamed = torch.tensor([chosen[each.row] for each in traced[:BLAMED]], dtype=torch.long)
    culprit = (fault.patch,)
    return (
        found.changes[blamed],
        fields[:BLAMED],
        {
            "ours": place(fields, culprit),
            "ours/single_patches": place(singles, culprit),
            "ours/candidates": len(fields),
        },
    )


def place(ranked: list[Any], wanted: Any) -> int:
    """From 1; 0 where it is not there."""
    return ranked.index(wanted) + 1 if wanted in ranked else NOT_FOUND


def measure_donor(model: UNetGenerator, fault: Fault, background: Tensor) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Turn each blamed component towards the one with the same patches in the autoencoder's reconstruction.

    With changes Df - Df' a gain of 0 puts the donor's Df' in the place of Df.
    """
    started = time.process_time()
    changes, fields, _ = trace_ours(fault)
    with torch.no_grad():
        latents = model.encode(fault.image)
    donor = explain_decoder(model, latents, background[:2], LAYER).feature
    good = Subject(fault.subject.tail, donor, fault.subject.baseline, fault.subject.spread)
    found = decompose(good, GRID, DecomposeSettings(order=2), fault.met)
    row_of = {field: row for row, field in enumerate(found.fields)}
    rows = torch.tensor([row_of[field] for field in fields])
    made = mend(model, fault, changes - found.changes[rows])
    judged = judge(fault, made) | {"seconds": time.process_time() - started}
    return {"fault": fault.kind, "repairs": {"ours/donor": judged}}, {"ours/donor": made.taken.image}


def measure_inpainting(model: UNetGenerator, prompt: str, fault: Fault, number: int) -> dict[str, Any]:
    """Inpainting by the rule without the second opinion."""
    started, none = time.process_time(), fault.subject.feature[:0]
    made = mend(model, fault, none, inpaint(model, prompt, fault, number), of=("inpaint",), anchored=False)
    judged = judge(fault, made) | {"seconds": time.process_time() - started}
    return {"fault": fault.kind, "repairs": {"inpainting/no_anchor": judged}}


def trace_gradient(fault: Fault) -> tuple[Tensor, dict[str, int]]:
    """What the cells of each patch hold, ranked by the gradient map of the region."""
    sums = GRID.pool(map_gradient(fault.subject, fault.region)[None])[0]
    ranked = sorted(fault.met, key=lambda patch: -float(sums[patch]))
    cells = torch.stack([GRID.numbers() == patch for patch in ranked[:BLAMED]])
    change = fault.subject.feature - fault.subject.baseline
    return change * cells[:, None], {"gradient_map": place(ranked, fault.patch)}


def trace_parts(fault: Fault) -> tuple[Tensor, int]:
    """Parts of a factorisation ranked as components are; the culprit is the part that is most like the fault."""
    parts = factorise(fault.subject)
    ranked = rank_by_blame(fault.subject, parts, fault.region)
    scaled = [each / fault.subject.spread for each in (parts, fault.change)]
    alike = (scaled[0] * scaled[1]).flatten(1).sum(1) / scaled[0].flatten(1).norm(dim=1)
    return parts[ranked[:BLAMED]], place(ranked, int(alike.argmax()))


@torch.no_grad()
def rank_artifacts(model: UNetGenerator, fault: Fault) -> int:
    """The spoiled patch's place by the artifact score of each patch inside the region."""
    error = (fault.image - model.decode(model.encode(fault.image))).square().sum(1) * fault.region
    sums, sizes = GRID.pool(error)[0], GRID.pool(fault.region[None].float())[0]
    return place(sorted(fault.met, key=lambda patch: -float(sums[patch] / sizes[patch])), fault.patch)


def mend(
    model: UNetGenerator,
    fault: Fault,
    changes: Tensor,
    rivals: Iterable[Tensor] = (),
    *,
    of: Sequence[str] = ("primitives",),
    anchored: bool = True,
) -> Repair:
    """The best of one arm's attempts (`of`; "*" is all, as the command takes it) by the rule of all repairs.

    The artifact score falls by 5 %, 40 dB are left outside and, where it is anchored, the region comes nearer to the
    autoencoder's reconstruction of the spoiled picture.
    """
    defect = score_artifacts(lambda images: model.decode(model.encode(images)), fault.region)
    with torch.no_grad():
        anchor = model.decode(model.encode(fault.image)) if anchored else None
    made = repair_region(fault.subject, changes, fault.region, defect, RepairSettings(), rivals, anchor)
    own = [each for each in made.attempts if each.accepted and ("*" in of or each.route in of)]
    unchanged = Attempt("none", fault.image, made.before, float("inf"), accepted=True)
    return replace(made, taken=min(own, key=lambda each: each.score, default=unchanged))


def inpaint(model: UNetGenerator, prompt: str, fault: Fault, seed: int) -> Iterable[Tensor]:
    """The region drawn anew from the spoiled picture's own latent, everything else as it was."""
    text, negative, settings = model.encode_prompt(prompt), model.encode_negative(""), InpaintSettings()
    with torch.no_grad():
        latents = model.encode(fault.image)
        for number in range(REDRAWN):
            drawn = redraw(model, latents, fault.region, text, negative, settings, seed * REDRAWN + number)
            yield torch.where(fault.region, model.decode(drawn), fault.image)


def judge(fault: Fault, made: Repair) -> dict[str, Any]:
    """Against the picture without the fault: the share of the squared error inside that is gone, the change outside.

    `outside`: squared change outside the region over that between the picture and the baseline's, outside.
    """
    inside, outside = fault.region, ~fault.region
    before = (fault.image - fault.clean)[..., inside].square().sum()
    after = (made.taken.image - fault.clean)[..., inside].square().sum()
    changed = (made.taken.image - fault.image)[..., outside].square().sum()
    whole = (fault.image - fault.origin)[..., outside].square().sum()
    return {
        "route": made.taken.route,
        "accepted": made.taken.route != "none",
        "gain": float(1 - after / before),
        "outside": float(changed / whole),
        "score_before": made.before,
        "score_after": made.taken.score,
        "gains": list(made.taken.gains),
    }
