"""Write the training recipe that adapts a generator to inspected photographs."""

import math
from pathlib import Path

from tailforge.flows.photographs.commented import Commented
from tailforge.flows.photographs.inspect import Inspection
from tailforge.flows.photographs.recipe_text import TEMPLATE, WORKSHOP, Names
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.settings.fields import ModelSource
from tailforge.schemas.training.generator import CLASS

BATCH, PASSES = 16, 2  # images per step, and times that every photograph is seen; our choices
FEWEST_STEPS, MOST_STEPS = 900, 4000  # 6 to 30 minutes for the embedded generator on two cores
ADAPTED_STEPS = 1000
FITS = {
    "exact": "all photographs have the generator's size",
    "crop": "scaled to cover the generator's size; the middle is kept",
    "stretch": "all have one aspect, which the generator lacks; stretch drawn images back where you use them",
}


def write_training(inspection: Inspection, names: Names, root: Path | None, given: ModelSource | None) -> str:
    """Return the training recipe as commented YAML. `root`: folder of the photographs; None: bytes in the table."""
    base = given or WORKSHOP
    out = Commented()
    out.remark(
        f"Adapts {base.model} to the training photographs of {inspection.origin}. Written by tailforge init.",
        "docs/how-to/training.md says what the settings do.",
    )
    out.put("kind", "generator", "the kind of training recipe")
    out.put("name", names.dataset, f"the model's folder in {names.model.partition('/')[0]}")
    _write_base(out, base)
    out.put("weights", "all" if _is_small(base) else "lora", "what learns: every weight, or small adapters")
    _write_images(out, inspection, names, root)
    _write_learning(out, inspection, base)
    return out.text()


def _write_base(out: Commented, base: ModelSource) -> None:
    out.add("base:", "the model to start from; its text encoder and autoencoder stay")
    out.put("  model", base.model, "the embedded generator: tiny, and drawn on a CPU" if _is_small(base) else "yours")
    if base.revision:
        out.put("  revision", base.revision, "the commit of the hub model")


def _write_images(out: Commented, inspection: Inspection, names: Names, root: Path | None) -> None:
    out.add("images:", "what it learns from")
    out.put("  folder", names.table, "your photographs with class and split")
    if root is not None:
        out.put("  root", str(root), "paths in the table start here; change it if you move the photographs")
    out.put("  split", "train", "never validation or test")
    out.put("  class_caption", TEMPLATE.replace("{concept}", CLASS), "the caption of each photograph, by its class")
    out.put("  fit", inspection.fit, FITS[inspection.fit])


def _write_learning(out: Commented, inspection: Inspection, base: ModelSource) -> None:
    count = inspection.splits.count("train")
    small = _is_small(base)
    steps = min(MOST_STEPS, max(FEWEST_STEPS, math.ceil(PASSES * count / BATCH))) if small else ADAPTED_STEPS
    out.add("learning:", "the optimiser")
    out.put("  steps", steps, f"{count_of(count, 'training photograph')}; more may help, and learn them by heart")
    out.put("  batch", BATCH if small else 8, "photographs per step")
    out.put("  learning_rate", 0.001 if small else 0.0001, "lower it if the error jumps")
    out.put("  schedule", "cosine", "the rate falls to 0 at the end")
    out.put("  ema_decay", 0.99, "average of the last weights, which is saved")
    out.put("  weighting", "min_snr_plus_one" if small else "min_snr", "how much each noise level counts")
    out.add("validation:", "measured on a tenth of the training photographs, from 50 on")
    out.put("  every", min(300, steps), "steps between measurements")


def _is_small(base: ModelSource) -> bool:
    """Return whether a model is of the catalog, where all models are small."""
    return base.model.startswith("catalog:")
