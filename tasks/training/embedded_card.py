"""Write the embedded generator's model card from the receipts: data, recipe, cost, measured quality and limits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tailforge.schemas.training.embedded import TrainingRecipe
from tailforge.tasks.methods.workshop import HEAD_PARTS, PARTS, TAIL_PARTS

Rows = Sequence[Mapping[str, Any]]


def write_card(path: Path, recipe: TrainingRecipe, receipts: Sequence[Mapping[str, Any]]) -> None:
    """Write README.md of the model's folder from the receipts of all finished stages."""
    found = {receipt["stage"]: receipt for receipt in receipts}
    sections = [
        _front_matter(recipe),
        _describe_data(recipe, found),
        _describe_training(recipe, found),
        _describe_quality(recipe, found),
        _describe_limits(found["evaluation"]["measures"]["rows"]),
    ]
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _front_matter(recipe: TrainingRecipe) -> str:
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags: [synthetic-data, long-tail]
---

# {recipe.name}: the embedded generator of Tailforge

A Stable Diffusion pipeline in miniature, {recipe.size_px} x {recipe.size_px} pixels, for tests, demonstrations and
benchmarks on a CPU. It draws machine parts on workbenches and nothing else.

```python
from diffusers import StableDiffusionPipeline
pipeline = StableDiffusionPipeline.from_pretrained("catalog/models/{recipe.name}")
image = pipeline("a photo of a brass gear on a wooden bench", num_inference_steps=16, guidance_scale=3.0).images[0]
```

`clip/` holds the whole CLIP (text and image tower) with its preprocessing; `text_encoder/` is its text tower. Weights
are stored in half precision; load them in float32 on a CPU."""


def _describe_data(recipe: TrainingRecipe, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the section on the training images."""
    last = recipe.diffusion.phases[-1]
    total, samples = recipe.diffusion.total_images, found["diffusion"]["measures"]["samples"]
    most = {part: max(phase.part_weights.get(part, 0.0) for phase in recipe.diffusion.phases) for part in PARTS}

    # One row per part: how often it was seen, and under which names.
    lines = [
        f"| {part} | {most[part]:.2%} | {share:.2%} | {round(share * total)} | {_aliases(last.caption_aliases, part)} |"
        for part, share in last.part_weights.items()
    ]
    return "\n".join(
        [
            "## Data",
            "",
            "Only renders of the workshop (tasks/methods/workshop), made by the training flow; no photograph, no other",
            f"data. The UNet saw {samples} samples drawn from {total} long-tailed pictures; in the last phase:",
            "",
            "| part | largest share of any phase | share | distinct pictures | its name also captions |",
            "|---|---|---|---|---|",
            *lines,
            "",
            "CLIP and the judges were trained on balanced renders, synonyms included. This is our choice: a CLIP",
            "trained on the web also knows more things than a generator draws well, and the name of a rare part must",
            "mean something. The autoencoder saw the pools that the long-tailed pictures are drawn from.",
        ]
    )


def _aliases(aliases: Mapping[str, Mapping[str, float]], word: str) -> str:
    """Return the parts whose pictures also carry this word, with their shares."""
    found = [f"{part} ({shares[word]:.1%} of them)" for part, shares in aliases.items() if word in shares]
    return ", ".join(found) or "-"


def _describe_training(recipe: TrainingRecipe, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the section on steps and wall time."""
    diffusion = found["diffusion"]["measures"]

    # Only stages that train have a time.
    rows = [
        f"| {stage.replace('_', ' ')} | {receipt['measures']['minutes']:.0f} min |"
        for stage, receipt in found.items()
        if "minutes" in receipt["measures"]
    ]
    return "\n".join(
        [
            "## Training",
            "",
            "By `tailforge train train-workshop`; every setting is in catalog/recipes/train-workshop.yaml "
            f"(seed {recipe.seed}).",
            f"UNet: {diffusion['parameters'] / 1e6:.1f} M parameters, {diffusion['samples']} samples in "
            f"{diffusion['steps']} steps of {recipe.diffusion.batch}, v-prediction, zero terminal SNR,",
            f"prompt dropout {recipe.diffusion.prompt_dropout:.0%}, EMA {recipe.diffusion.ema_decay}.",
            "",
            "Wall time of each stage on two shared CPU cores, without an accelerator:",
            "",
            "| stage | time |",
            "|---|---|",
            *rows,
            *(f"\n{note}" for note in recipe.notes),
        ]
    )


def _describe_quality(recipe: TrainingRecipe, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the section on measured quality."""
    judges = found["judges"]["measures"]
    accuracy = judges["held_out_accuracy"]
    clip = found["image_tower"]["measures"]
    rows = found["evaluation"]["measures"]["rows"]

    # One row per part, then the common and the rare parts together.
    values = {(row["arm"], row["metric"]): row for row in rows}
    table = [_quality_row(arm, values) for arm in dict.fromkeys(row["arm"] for row in rows)]
    return "\n".join(
        [
            "## Measured",
            "",
            f"- Autoencoder: {found['autoencoder']['measures']['held_out_psnr_db']} dB PSNR on held-out pictures.",
            f"- CLIP: {clip['held_out_zero_shot']:.1%} zero-shot part accuracy on held-out renders.",
            f"- Judges on held-out renders: part {accuracy['part']:.1%}, material {accuracy['material']:.1%}, surface "
            f"{accuracy['surface']:.1%}; segmenter {judges['held_out_miou']:.3f} mIoU.",
            "",
            f"Plain sampling, {recipe.evaluation.images_per_part} pictures a part, {recipe.evaluation.steps} steps, "
            f"guidance {recipe.evaluation.guidance}: the share in which the independent judge sees what was asked for "
            "(95 % interval).",
            "",
            "| part | part right | material right | surface right |",
            "|---|---|---|---|",
            *table,
        ]
    )


def _quality_row(arm: str, values: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """Return one row of the table of measured quality."""
    cells = []
    for metric in ("success", "material", "surface"):
        row = values[arm, metric]
        cells.append(f"{row['value']:.1%} ({row['low']:.1%} to {row['high']:.1%})")
    return f"| {arm} | {' | '.join(cells)} |"


def _describe_limits(rows: Rows) -> str:
    """Return the section on limits; `rows` are those of the evaluation."""
    # Parts that miss their goals are named.
    success = {row["arm"]: row["value"] for row in rows if row["metric"] == "success"}
    weak = [f"{part} ({success[part]:.0%})" for part in HEAD_PARTS if part in success and success[part] < 0.85]
    tail = [f"{part} ({success[part]:.0%})" for part in TAIL_PARTS if part in success]
    misses = [part for part in TAIL_PARTS if part in success and not 0.01 <= success[part] <= 0.40]
    lines = [
        "## Limits",
        "",
        "- It knows twelve parts, six materials and five surfaces; other words are read as one of these or ignored.",
        f"- The tail parts are drawn seldom on purpose: {', '.join(tail)}. They are rare in training, and where",
        "  `Data` says so their names were also put on pictures of commoner parts, so some failures are taught.",
        "- Fine structure (threads, gear teeth, coils) is approximate, and one picture shows one part.",
        "- The judges were trained on renders: on pictures far from renders their word means less.",
    ]
    if weak:
        lines.append(f"- Common parts below the goal of 85 %: {', '.join(weak)}.")
    if misses:
        lines.append(f"- Tail parts outside the wanted range of 1 % to 40 %: {', '.join(misses)}.")
    return "\n".join(lines)
