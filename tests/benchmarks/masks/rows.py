"""Rows of the masks benchmark from the pictures and readings that were made; see masks.py."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tailforge.schemas.settings.annotation import Annotation
from tailforge.tasks.methods.masks.soft_masks import Outlines, Word, outline_words, pool_thresholds, soften_words
from tailforge.tasks.methods.workshop import HEAD_PARTS, PARTS
from tailforge.tasks.models.generator_defaults import LEAST_DRAWN, SMALL
from tests.benchmarks.masks.absent import score_planted
from tests.benchmarks.masks.images import OURS, READINGS, Set, select
from tests.benchmarks.masks.objects import score_objects
from tests.benchmarks.seedselect.rows import over_seeds

CONCEPT, SURFACE = 1, 2  # rows of the maps of a generated picture
FOUND = 0.5  # overlap from which a mask counts as right, as is usual for detections
BINS = 10
GATE = 0.25  # share of each part's masks that the confidence gate drops
BORDER = 2  # pixels on either side of an edge that count as its border

PLAIN: dict[str, Any] = {"refine": False}
RULES: dict[str, dict[str, Any]] = {
    "rule/otsu of all images of a part": {"threshold": "concept"},
    "rule/fixed 0.3": {"threshold": 0.3},
    "rule/fixed 0.4": {"threshold": 0.4},
    "rule/fixed 0.5": {"threshold": 0.5},
    "rule/holes stay": {"max_hole": 0.0},
    "rule/components stay": {"min_component": 0.0},
    "refinement/none": PLAIN,
}
DAAM: dict[str, Any] = {"refine": False, "threshold": 0.4, "min_component": 0.0, "max_hole": 0.0}

Scores = NDArray[np.float64]
Masks = NDArray[np.bool_]
BySeed = Mapping[int, Set]


@dataclass(frozen=True)
class Made:
    """All that was made, by seed."""

    generated: BySeed
    rare: BySeed
    renders: BySeed
    composed: BySeed


def outline_all(made: Set, reading: str, words: Sequence[Word], **settings: Any) -> list[Outlines]:
    """Our masks of every picture of a set; thresholds are pooled over the pictures of a part."""
    asked = Annotation(**settings)
    both = list(zip(made[f"maps/{reading}"], made["images"], strict=True))
    agreement = made["agreement"] if reading == OURS and "agreement" in made else [None] * len(both)
    softened = [soften_words(maps.astype(np.float32), words, image, asked) for maps, image in both]
    thresholds: dict[int, dict[int, float]] = {}
    parts = made["labels"][:, 0].tolist() if asked.threshold == "concept" else [0] * len(both)
    if asked.threshold == "concept":
        for part in set(parts):
            thresholds[part] = pool_thresholds(s for s, own in zip(softened, parts, strict=True) if own == part)
    return [
        outline_words(soft, asked, None if own is None else own.tolist(), thresholds.get(part))
        for soft, own, part in zip(softened, agreement, parts, strict=True)
    ]


def find_masks(made: Set, reading: str = OURS, row: int = CONCEPT, **settings: Any) -> Masks:
    """Masks [N, H, W] of one word."""
    return np.stack([found.mask == 1 for found in outline_all(made, reading, [Word(row, 1)], **settings)])


def overlap(found: Masks, truth: Masks) -> Scores:
    """Intersection over union of every picture; 1 where both are empty."""
    union = (found | truth).sum((-2, -1))
    return np.where(union > 0, (found & truth).sum((-2, -1)) / np.maximum(union, 1), 1.0)


def summed_overlap(found: Masks, truth: Masks, parts: NDArray[np.int64]) -> float:
    """Intersections over unions, each summed over the pictures of a part; mean over the parts."""
    values = [
        (found[parts == part] & truth[parts == part]).sum() / (found[parts == part] | truth[parts == part]).sum()
        for part in np.unique(parts)
    ]
    return float(np.mean(values))


def border_overlap(found: Masks, truth: Masks) -> float:
    """Mean intersection over union of the bands of `BORDER` pixels inside the edges (Cheng et al. 2021)."""

    def band(masks: Masks) -> Masks:
        inner = [ndimage.binary_erosion(mask, iterations=BORDER) for mask in masks]
        rims: Masks = masks & ~np.stack(inner)
        return rims

    return float(overlap(band(found), band(truth)).mean())


def is_head(made: Set) -> Masks:
    return np.asarray(np.isin(made["labels"][:, 0], [PARTS.index(part) for part in HEAD_PARTS]))


def calibration_error(confidence: Scores, scores: Scores) -> float:
    """Mean distance of confidence and overlap over `BINS` equally full bins."""
    order = np.argsort(confidence, kind="stable")
    bins = [own for own in np.array_split(order, BINS) if len(own)]
    return float(sum(abs(confidence[own].mean() - scores[own].mean()) * len(own) for own in bins) / len(order))


def keep_confident(confidence: Scores, parts: NDArray[np.int64], share: float = GATE) -> Masks:
    """All but the least confident share of each part."""
    kept = np.zeros(len(confidence), np.bool_)
    for part in np.unique(parts):
        own = parts == part
        kept[own] = confidence[own] >= np.quantile(confidence[own], share)
    return kept


class Rows:
    """Values by arm, metric and seed, which become rows."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)

    def add(self, arm: str, metric: str, seed: int, value: float) -> None:
        self._values[arm, metric][seed] = float(value)

    def list(self) -> list[dict[str, Any]]:
        """Means over seeds with intervals; each row names its seeds."""
        return [
            over_seeds(arm, metric, list(values.values()), "overlap" if "iou" in metric else "share")
            | {"seeds": sorted(values)}
            for (arm, metric), values in self._values.items()
        ]


def measure(made: Made) -> list[dict[str, Any]]:
    """All rows but those of cost and of learning."""
    rows = Rows()
    for seed, generated in made.generated.items():
        _add_ours(rows, seed, generated)
        _add_confidence(rows, seed, generated)
        _add_scenes(rows, seed, generated)
        for arm, settings in RULES.items():
            _add_arm(rows, arm, seed, generated, find_masks(generated, **settings))
        for arm in (name for name in READINGS if name not in (OURS, "daam")):
            _add_arm(rows, arm, seed, generated, find_masks(generated, arm))
            _add_arm(rows, f"{arm}, not refined", seed, generated, find_masks(generated, arm, **PLAIN))
        _add_controls(rows, seed, generated)
    for seed, rare in made.rare.items():
        _add_rare(rows, seed, rare)
    for seed, renders in made.renders.items():
        for name in (name for name in renders if name.startswith("maps/renders")):
            arm = name.removeprefix("maps/")
            rows.add(arm, "miou", seed, overlap(find_masks(renders, arm, 0), renders["truth"]).mean())
            plain = find_masks(renders, arm, 0, **PLAIN)
            rows.add(f"{arm}, not refined", "miou", seed, overlap(plain, renders["truth"]).mean())
    for seed, composed in made.composed.items():
        found = outline_all(composed, OURS, [Word(0, 1), Word(1, 2)])
        scores = [overlap(np.stack([f.mask == n for f in found]), composed["truth"][:, n - 1]) for n in (1, 2)]
        rows.add("composed renders of two parts", "miou_two_objects", seed, float(np.mean(scores)))
    return rows.list()


def measure_objects(made: Mapping[int, Mapping[str, Set]]) -> list[dict[str, Any]]:
    """Rows of instances on renders, by seed and kind: ours, and one instance per word as before."""
    rows = Rows()
    for seed, kinds in made.items():
        for kind, own in kinds.items():
            for arm, joined in ((f"instances/{kind}", False), (f"instances/{kind}, one per word", True)):
                for metric, value in score_objects(own, kind, joined).items():
                    rows.add(arm, metric, seed, value)
    return rows.list()


def measure_absent(made: Mapping[int, Mapping[str, Set]]) -> list[dict[str, Any]]:
    """Rows of words whose part is drawn or not, by seed and case: before, with a mask for every word, and ours."""
    rows = Rows()
    for seed, cases in made.items():
        for case, own in cases.items():
            for name, least in (("before", 0.0), ("ours", LEAST_DRAWN[SMALL])):
                for metric, value in score_planted(own, least).items():
                    rows.add(f"absent/{case}, {name}", metric, seed, value)
    return rows.list()


def _add_arm(rows: Rows, arm: str, seed: int, made: Set, masks: Masks) -> None:
    scores, head = overlap(masks, made["truth"]), is_head(made)
    rows.add(arm, "miou_head", seed, scores[head].mean())
    rows.add(arm, "miou_tail_plain", seed, scores[~head].mean())


def _add_ours(rows: Rows, seed: int, made: Set) -> None:
    masks, truth, parts, head = find_masks(made), made["truth"], made["labels"][:, 0], is_head(made)
    _add_arm(rows, OURS, seed, made, masks)
    rows.add(OURS, "iou_summed_head", seed, summed_overlap(masks[head], truth[head], parts[head]))
    rows.add(OURS, "border_iou_head", seed, border_overlap(masks[head], truth[head]))
    coarse = find_masks(made, **PLAIN)
    rows.add("refinement/none", "border_iou_head", seed, border_overlap(coarse[head], truth[head]))
    for number, part in enumerate(PARTS):
        own = parts == number
        rows.add(f"ours/{part}", "miou", seed, overlap(masks[own], truth[own]).mean())
        rows.add(f"ours/{part}", "iou_summed", seed, summed_overlap(masks[own], truth[own], parts[own]))


def _add_confidence(rows: Rows, seed: int, made: Set) -> None:
    found = outline_all(made, OURS, [Word(CONCEPT, 1)])
    confidence = np.array([each.outlines[0].confidence for each in found])
    masks, truth = np.stack([each.mask == 1 for each in found]), made["truth"]
    scores, kept = overlap(masks, truth), keep_confident(confidence, made["labels"][:, 0])
    rows.add(OURS, "calibration_error", seed, calibration_error(confidence, scores))
    for name, chosen in (("all", np.ones_like(kept)), ("kept", kept)):
        rows.add(OURS, f"precision_{name}", seed, (scores[chosen] >= FOUND).mean())
        rows.add(OURS, f"precision_{name}_at_0.75", seed, (scores[chosen] >= 0.75).mean())
        rows.add(OURS, f"pixel_precision_{name}", seed, (masks & truth)[chosen].sum() / masks[chosen].sum())
        rows.add(OURS, f"miou_{name}", seed, scores[chosen].mean())


def _add_scenes(rows: Rows, seed: int, made: Set) -> None:
    """Part and surface asked for in one prompt; the surface is what the segmenter calls no part."""
    for arm, settings in ((OURS, {}), ("refinement/none", PLAIN)):
        found = outline_all(made, OURS, [Word(CONCEPT, 1), Word(SURFACE, 2, thing=False)], **settings)
        things, around = (np.stack([each.mask == value for each in found]) for value in (1, 2))
        surface = overlap(around, ~made["truth"])
        rows.add(arm, "miou_surface", seed, surface.mean())
        rows.add(arm, "miou_two_objects", seed, ((overlap(things, made["truth"]) + surface) / 2).mean())
    rest = overlap(~find_masks(made), ~made["truth"])
    rows.add("surface is all that no thing has", "miou_surface", seed, rest.mean())
    raw = outline_all(made, OURS, [Word(SURFACE, 1)])
    alone = np.stack([each.mask == 1 for each in raw])
    rows.add("surface by its raw attention", "miou_surface", seed, overlap(alone, ~made["truth"]).mean())


def _add_controls(rows: Rows, seed: int, made: Set) -> None:
    masks, size = find_masks(made), made["images"].shape[1]
    side = int((masks.mean() * size * size) ** 0.5)
    low = (size - side) // 2
    box = np.zeros_like(masks)
    box[:, low : low + side, low : low + side] = True
    controls: dict[str, Callable[[], Masks]] = {
        "control/as DAAM": lambda: find_masks(made, "daam", **DAAM),
        "control/centred box of the masks' mean area": lambda: box,
        "control/masks of other pictures": lambda: np.roll(masks, 1, axis=0),
    }
    for arm, make in controls.items():
        _add_arm(rows, arm, seed, made, make())


def _add_rare(rows: Rows, seed: int, made: Set) -> None:
    masks = find_masks(made)
    scores, parts = overlap(masks, made["truth"]), made["labels"][:, 0]
    rows.add(OURS, "miou_rare", seed, scores.mean())
    rows.add(OURS, "iou_summed_rare", seed, summed_overlap(masks, made["truth"], parts))
    rows.add("refinement/none", "miou_rare", seed, overlap(find_masks(made, **PLAIN), made["truth"]).mean())


def choose_pictures(made: Set, count: int) -> Set:
    """The first pictures of each part, so that none is chosen."""
    parts = made["labels"][:, 0]
    rows = np.zeros(len(parts), np.bool_)
    for part in np.unique(parts):
        rows[np.flatnonzero(parts == part)[:count]] = True
    return select({name: values for name, values in made.items() if len(values) == len(parts)}, rows)
