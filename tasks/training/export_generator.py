"""Write a trained generator's folder: the base's own files, the new UNet, the training's record and a model card."""

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open

from tailforge.catalog.metadata.generator_history import describe_training, read_training
from tailforge.catalog.sources.models import digest_model
from tailforge.schemas.errors import UserError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.training.record import FILE, TrainedBase, TrainedImages, TrainedStructure, TrainingRecord
from tailforge.tasks.artifacts.contract import library_versions
from tailforge.tasks.models.generator_files import generator_folder, weight_files, weights_variant
from tailforge.tasks.models.pipeline_folders import forget_origin, swap_folder
from tailforge.tasks.training.generator_stages import Work

UNET, CARD = "unet", "README.md"


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier training of this name, by a UserError."""
    if folder.exists() and not (folder / FILE).is_file():
        raise UserError(f"{folder} holds a model that was not made by this command; choose another name in the recipe")


def export_generator(work: Work, models: Path, images: TrainedImages, measures: dict[str, Any]) -> dict[str, Any]:
    """Write the model's folder beside and swap it in; return its path and digest. Errors: as `refuse_foreign`."""
    folder = models / work.recipe.name
    refuse_foreign(folder)
    models.mkdir(parents=True, exist_ok=True)

    # A kill leaves the old folder or the new one.
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    base = _files_of(work.base)
    shutil.copytree(base, beside, ignore=shutil.ignore_patterns(UNET, CARD, FILE, ".git*"))
    _save_unet(work, base, beside / UNET)

    # The record and the card say how it was made.
    record = _record(work, images, measures)
    (beside / FILE).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (beside / CARD).write_text(_write_card(record), encoding="utf-8")
    swap_folder(beside, folder)
    return {"model": str(folder), "digest": digest_model(folder)}


def _files_of(base: ResolvedModel) -> Path:
    """Return the pipeline's directory; for a hub model, the folder of its download."""
    folder = generator_folder(base)
    return folder or Path(DiffusionPipeline.download(base.path, revision=base.revision, use_safetensors=True))


def _save_unet(work: Work, base: Path, folder: Path) -> None:
    """Save the UNet in the precision and under the names of the base's own."""
    with safe_open(weight_files(base / UNET, "diffusion_pytorch_model")[0], framework="pt") as file:
        dtype = file.get_tensor(next(iter(file.keys()))).dtype
    unet = UNet2DConditionModel.from_pretrained(work.folder / "generator" / UNET, torch_dtype=torch.float32)
    unet.to(dtype).save_pretrained(folder, variant=weights_variant(base))
    forget_origin(folder / "config.json")


def _describe_base(work: Work) -> TrainedBase:
    recipe = work.recipe
    if recipe.base is None:
        assert recipe.network is not None
        name = f"a new pixel network of {recipe.network.height} x {recipe.network.width}"
        return TrainedBase(model=name, digest=work.base.digest)
    return TrainedBase(model=recipe.base.model, digest=work.base.digest, training=read_training(work.base))


def _record(work: Work, images: TrainedImages, measures: dict[str, Any]) -> TrainingRecord:
    """Return the record of the training."""
    recipe = work.recipe

    # `minutes` has a field of its own.
    return TrainingRecord(
        format="tailforge-training/1",
        name=recipe.name,
        base=_describe_base(work),
        start=recipe.start if recipe.network is None else "new",
        weights=recipe.weights,
        images=images,
        structure=TrainedStructure.model_validate(recipe.structure.model_dump(mode="json")),
        steps=recipe.learning.steps,
        batch=recipe.learning.batch,
        seed=recipe.learning.seed,
        minutes=measures["minutes"],
        measures={key: value for key, value in measures.items() if key != "minutes"},
        versions=library_versions(),
    )


def _write_card(record: TrainingRecord) -> str:
    """Return the text of the model card."""
    # One row per validation.
    rows = [f"| {row['step']} | {row['error']:.4f} |" for row in record.measures["validation"]]
    lines = [
        "---",
        "library_name: diffusers",
        "pipeline_tag: text-to-image",
        f"tags: [tailforge, {record.weights.replace('_', '-')}]",
        "---",
        "",
        f"# {record.name}",
        "",
        *describe_training(record),
        "",
        "```yaml",
        f"generator: {{model: path/of/{record.name}}}  # or catalog:{record.name}, where it lies in catalog/models",
        "```",
        "",
        f"Trained for {record.minutes:.1f} minutes; every setting is in training.json.",
        "",
        "| step | denoising error of the averaged weights |",
        "|---|---|",
        *rows,
        "",
        "The error is measured at fixed noise on images that were held out, or on those learnt where they are too few.",
        "It compares steps of one training; it says little about how good pictures are.",
    ]
    if record.measures["game_ended"]:
        lines += [
            "",
            "The structure game made the denoising error worse and was ended; the best weights were taken up.",
        ]
    return "\n".join(lines) + "\n"
