"""Write the generator of the recipe for inspected photographs: what the build adapts to them, and how."""

import math
from pathlib import Path

from tailforge.catalog.sources.models import MODELS
from tailforge.flows.photographs.commented import Commented
from tailforge.flows.photographs.inspect import Inspection
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.settings.fields import ModelSource
from tailforge.schemas.settings.licences import UNKNOWN, OtherLicence
from tailforge.schemas.training.generator import CLASS, PixelNetwork

WORKSHOP = ModelSource(model="catalog:workshop")
TEMPLATE = "a photo of a {concept}"
BATCH, PASSES = 16, 2  # images per step, and times that every photograph is seen; our choices
FEWEST_STEPS, MOST_STEPS = 900, 4000  # 6 to 30 minutes for the embedded generator on two cores
ADAPTED_STEPS = 1000
NEW_STEPS = 1800  # of a new network; docs/how-to/training.md
NEW_PIXELS, NEW_BATCHES = 65536, (16, 64)  # in a step of a new network, and its fewest and most photographs
FITS = {
    "exact": "all photographs have the generator's size",
    "crop": "scaled to cover the generator's size; the middle is kept",
    "pad": "all have one aspect, far from that of the generator; black borders keep their shapes",
    "stretch": "all have one aspect, which the generator lacks; stretch drawn images back where you use them",
}


def write_unchanged(out: Commented, given: ModelSource, why: str) -> None:
    """Write the section `generator` for a model that draws as it is."""
    out.add("generator:", "the model that draws")
    out.put("  model", given.model, f"named by --generator; {why}")


def write_adapted(
    out: Commented, inspection: Inspection, table: str, root: Path | None, given: ModelSource | None
) -> None:
    """Write the section `generator` for one that learns the photographs.

    `table`: of the photographs; `root`: their folder; None: bytes in the table.
    """
    network, base = inspection.network, given or WORKSHOP
    out.add("generator:", "the model that draws; the build trains it first")
    if network is not None:
        out.add("  network:", "a new one, whose latents are the pixels of small photographs")
        out.put("    height", network.height, "rows of the photographs and of the drawn images")
        out.put("    width", network.width, "columns")
        out.put("    grey", network.grey, "one channel instead of three")
    else:
        out.add("  base:", "the model to start from; its text encoder and autoencoder stay")
        own = "the embedded generator: tiny, and drawn on a CPU" if is_small(base) else "named by --generator"
        out.put("    model", base.model, own)
        if base.revision:
            out.put("    revision", base.revision, "the commit, so that the model never changes unseen")

    out.add("  adapt:", "how it learns your photographs; docs/how-to/training.md says what the settings do")
    if network is None:
        out.put("    weights", "all" if is_small(base) else "lora", "what learns: every weight, or small adapters")
    _write_images(out, inspection, table, root)
    _write_learning(out, inspection, base)


def _write_images(out: Commented, inspection: Inspection, table: str, root: Path | None) -> None:
    out.add("    images:", "what it learns from")
    out.put("      folder", table, "your photographs with class and split")
    if root is not None:
        out.put("      root", str(root), "paths in the table start here; change it if you move the photographs")
    out.put("      split", "train", "never validation or test")
    out.put("      class_caption", TEMPLATE.replace("{concept}", CLASS), "the caption of each photograph, by its class")
    out.put("      fit", inspection.fit, FITS[inspection.fit])
    out.put("      license", *tell_licence(inspection))


def tell_licence(inspection: Inspection) -> tuple[str | dict[str, str], str]:
    """Return the licence of the photographs as the recipe holds it, and the remark on it."""
    licence = inspection.question.license
    if licence == UNKNOWN:
        return licence, "CHANGE: nobody said under which licence the photographs are; versions state it"
    if isinstance(licence, OtherLicence):
        return licence.model_dump(exclude_none=True), "the photographs' own; url: of its text may follow the name"
    return licence, "the photographs' own; versions state it"


def _write_learning(out: Commented, inspection: Inspection, base: ModelSource) -> None:
    count, new = inspection.splits.count("train"), inspection.network is not None
    small = new or is_small(base)
    steps = min(MOST_STEPS, max(FEWEST_STEPS, math.ceil(PASSES * count / BATCH))) if small else ADAPTED_STEPS

    # How long, and which photographs.
    out.add("    learning:", "the optimiser")
    told = f"{count_of(count, 'training photograph')}; more may help, and learn them by heart"
    out.put("      steps", NEW_STEPS if new else steps, told)
    out.put("      batch", _choose_batch(inspection.network, small), "photographs per step")
    if new:
        out.put("      balance", "root", "classes by the roots of their photographs; class: equally often")
    else:
        out.put("      balance", "class", "rare classes are learnt as often as the others; none: as often as they are")

    # How each step changes the weights.
    out.put("      learning_rate", 0.001 if small else 0.0001, "lower it if the error jumps")
    out.put("      schedule", "cosine", "the rate falls to 0 at the end")
    out.put("      ema_decay", 0.99, "average of the last weights, which is saved")
    out.put("      weighting", "min_snr_plus_one" if small else "min_snr", "how much each noise level counts")
    out.add("    validation:", "measured on a tenth of the training photographs, from 50 on; pictures of every class")
    out.put("      every", 600 if new else min(300, steps), "steps between measurements")


def _choose_batch(network: PixelNetwork | None, small: bool) -> int:
    """Return the photographs per step. A new network takes fewer large ones, so that steps take about equal time."""
    if network is None:
        return BATCH if small else 8
    fewest, most = NEW_BATCHES
    return min(most, max(fewest, NEW_PIXELS // (network.height * network.width) // 8 * 8))


def locate_source(source: ModelSource) -> ResolvedModel:
    """Return a generator's place, without a digest of its files."""
    name = source.model.removeprefix("catalog:")
    path = str(MODELS / name) if name != source.model else source.model
    return ResolvedModel(path=path, revision=source.revision, digest="")


def is_small(base: ModelSource) -> bool:
    """Return whether a model is of the catalog, where all models are small."""
    return base.model.startswith("catalog:")
