"""Prefect tasks of the embedded generator's training: each opens its inputs, calls a method and saves the result."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from prefect import task
from prefect.cache_policies import NO_CACHE
from transformers import CLIPModel, CLIPTokenizer

from tailforge.tasks.methods.embedded.autoencoder import encode_images, measure_psnr, train_autoencoder
from tailforge.tasks.methods.embedded.captions import every_word
from tailforge.tasks.methods.embedded.clip import (
    classify_zero_shot,
    tokenize,
    train_clip,
    train_tokenizer,
    tune_image_tower,
)
from tailforge.tasks.methods.embedded.diffusion import train_diffusion
from tailforge.tasks.methods.embedded.judges import (
    Classifier,
    Segmenter,
    mean_overlap,
    train_classifier,
    train_segmenter,
)
from tailforge.tasks.methods.embedded.measure import count_confusions, plan_requests, tabulate
from tailforge.tasks.methods.generator_training.denoising import Embed
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.training_loop import Observe, Saved
from tailforge.tasks.methods.workshop import PARTS
from tailforge.tasks.models.judges import load_judges, save_judge
from tailforge.tasks.models.pipeline_folders import draw_images, open_pipeline
from tailforge.tasks.models.workshop_generator import export_generator, text_tower
from tailforge.tasks.training.embedded_card import write_card
from tailforge.tasks.training.embedded_stages import TrainingJob, finish_once, train_stage
from tailforge.tasks.training.pools import Pool, open_pool, render_pool

# The receipt in the work directory is the only cache. Trying again helps neither a bad recipe nor a diverged run.
TRAINING_TASK: dict[str, Any] = {"retries": 0, "cache_policy": NO_CACHE, "persist_result": False}
POOLS = ("long_tailed", "balanced", "held_out")


@task(task_run_name="render pools", **TRAINING_TASK)
def render_pools(job: dict[str, Any]) -> dict[str, Any]:
    """Render the pictures of all training and measuring."""
    spec = TrainingJob.model_validate(job)

    def produce(folder: Path) -> dict[str, Any]:
        counts = {}
        for name in POOLS:
            pool = getattr(spec.recipe, name)
            counts[name] = render_pool(
                folder / name, pool.part_counts, pool.seed, spec.recipe.size_px, spec.recipe.workers
            )
        return counts

    return finish_once(spec, "pools", produce)


@task(task_run_name="fit autoencoder", **TRAINING_TASK)
def fit_autoencoder(job: dict[str, Any]) -> dict[str, Any]:
    """Train the autoencoder, measure it on whole held-out pictures, and encode the long-tailed pool once."""
    spec = TrainingJob.model_validate(job)

    def produce(folder: Path) -> dict[str, Any]:
        recipe = spec.recipe
        images = open_pool(spec.folder("pools") / "long_tailed").images

        def train(saved: Saved, observe: Observe) -> AutoencoderKL:
            return train_autoencoder(images, recipe.autoencoder, recipe.seed, saved, observe)

        model, minutes = train_stage(spec, "autoencoder", recipe.autoencoder.steps, train)
        model.save_pretrained(folder / "model")

        # The diffusion reads scaled latents.
        latents = encode_images(model, images) * np.float32(model.config.scaling_factor)
        np.save(folder / "latents.npy", latents)

        psnr = measure_psnr(model, open_pool(spec.folder("pools") / "held_out").images)
        factor = model.config.scaling_factor
        return {"held_out_psnr_db": round(psnr, 2), "scaling_factor": factor, "minutes": minutes}

    return finish_once(spec, "autoencoder", produce)


@task(task_run_name="fit clip", **TRAINING_TASK)
def fit_clip(job: dict[str, Any]) -> dict[str, Any]:
    """Train tokenizer and CLIP on the balanced pool; measure zero-shot accuracy on held-out pictures."""
    spec = TrainingJob.model_validate(job)

    def produce(folder: Path) -> dict[str, Any]:
        settings = spec.recipe.clip
        tokenizer = train_tokenizer(every_word(), settings.vocabulary, settings.tokens)
        tokenizer.save_pretrained(folder / "model")
        pool, held_out = (open_pool(spec.folder("pools") / name) for name in ("balanced", "held_out"))

        def train(saved: Saved, observe: Observe) -> CLIPModel:
            return train_clip(pool.images, pool.labels, tokenizer, settings, spec.recipe.seed, saved, observe)

        model, minutes = train_stage(spec, "clip", settings.steps, train)
        model.save_pretrained(folder / "model")
        share = _measure_zero_shot(model, tokenizer, held_out)
        return {"held_out_zero_shot": share, "words": len(tokenizer), "minutes": minutes}

    return finish_once(spec, "clip", produce)


@task(task_run_name="fit image tower", **TRAINING_TASK)
def fit_image_tower(job: dict[str, Any]) -> dict[str, Any]:
    """Train CLIP's image tower further, beside the text tower that the generator was trained with."""
    spec = TrainingJob.model_validate(job)

    def produce(folder: Path) -> dict[str, Any]:
        settings = spec.recipe.clip
        pool, held_out = (open_pool(spec.folder("pools") / name) for name in ("balanced", "held_out"))
        model, tokenizer = _open_clip(spec)
        seed = spec.recipe.seed + 1  # so the pictures do not come again in the order of CLIP's own training

        def train(saved: Saved, observe: Observe) -> CLIPModel:
            return tune_image_tower(model, pool.images, pool.labels, tokenizer, settings, seed, saved, observe)

        _, minutes = train_stage(spec, "image_tower", settings.image_steps, train)
        model.save_pretrained(folder / "model")
        return {"held_out_zero_shot": _measure_zero_shot(model, tokenizer, held_out), "minutes": minutes}

    return finish_once(spec, "image_tower", produce)


@task(task_run_name="fit diffusion", **TRAINING_TASK)
def fit_diffusion(job: dict[str, Any]) -> dict[str, Any]:
    """Train the UNet on the encoded long-tailed pool, with CLIP's frozen text tower."""
    spec = TrainingJob.model_validate(job)

    def produce(folder: Path) -> dict[str, Any]:
        recipe = spec.recipe
        latents = np.load(spec.folder("autoencoder") / "latents.npy", mmap_mode="r")
        labels = open_pool(spec.folder("pools") / "long_tailed").labels

        def train(saved: Saved, observe: Observe) -> UNet2DConditionModel:
            return train_diffusion(latents, labels, _embedder(spec), recipe.diffusion, recipe.seed, saved, observe)

        steps = sum(phase.steps for phase in recipe.diffusion.phases)
        model, minutes = train_stage(spec, "diffusion", steps, train)
        model.save_pretrained(folder / "model")
        return {
            "steps": steps,
            "samples": steps * recipe.diffusion.batch,
            "parameters": sum(value.numel() for value in model.parameters()),
            "minutes": minutes,
        }

    return finish_once(spec, "diffusion", produce)


@task(task_run_name="fit judges", **TRAINING_TASK)
def fit_judges(job: dict[str, Any]) -> dict[str, Any]:
    """Train the independent classifier and segmenter on the balanced pool; measure both on held-out pictures."""
    spec = TrainingJob.model_validate(job)

    def produce(folder: Path) -> dict[str, Any]:
        settings, seed = spec.recipe.judges, spec.recipe.seed
        pool, held_out = (open_pool(spec.folder("pools") / name) for name in ("balanced", "held_out"))

        def fit_classifier(saved: Saved, observe: Observe) -> Classifier:
            return train_classifier(pool.images, pool.labels, settings, seed, saved, observe)

        def fit_segmenter(saved: Saved, observe: Observe) -> Segmenter:
            return train_segmenter(pool.images, pool.masks, settings, seed, saved, observe)

        # Train the one, then the other.
        steps = settings.classifier_steps
        classifier, minutes = train_stage(spec, "judges", steps, fit_classifier, "classifier-checkpoint")
        save_judge(folder / "model", "classifier", classifier, settings.classifier_width)
        steps = settings.segmenter_steps
        segmenter, more = train_stage(spec, "judges", steps, fit_segmenter, "segmenter-checkpoint")
        save_judge(folder / "model", "segmenter", segmenter, settings.segmenter_width)

        # Measure both as they are saved.
        judges = load_judges(folder / "model")
        right = (judges.classify(held_out.images) == held_out.labels).mean(axis=0)
        overlap = mean_overlap(judges.segment(held_out.images), held_out.masks)
        named = dict(zip(("part", "material", "surface"), right, strict=True))
        accuracy = {name: round(float(share), 4) for name, share in named.items()}
        return {"held_out_accuracy": accuracy, "held_out_miou": round(overlap, 4), "minutes": round(minutes + more, 1)}

    return finish_once(spec, "judges", produce)


@task(task_run_name="export generator", **TRAINING_TASK)
def export_models(job: dict[str, Any]) -> dict[str, Any]:
    """Write the pipeline directory and the judges into the catalog of models."""
    spec = TrainingJob.model_validate(job)

    def produce(folder: Path) -> dict[str, Any]:
        unet = UNet2DConditionModel.from_pretrained(spec.folder("diffusion") / "model")
        size = export_generator(spec.model_folder, unet, _open_autoencoder(spec), *_open_clip(spec, "image_tower"))
        judges = load_judges(spec.folder("judges") / "model")
        widths = spec.recipe.judges
        save_judge(spec.judges_folder, "classifier", judges.classifier, widths.classifier_width)
        save_judge(spec.judges_folder, "segmenter", judges.segmenter, widths.segmenter_width)
        return {"bytes": size}

    return finish_once(spec, "export", produce)


@task(task_run_name="evaluate generator", **TRAINING_TASK)
def evaluate_generator(job: dict[str, Any]) -> dict[str, Any]:
    """Draw pictures by plain sampling, let the judges count, and write the model card."""
    spec = TrainingJob.model_validate(job)

    def produce(folder: Path) -> dict[str, Any]:
        settings = spec.recipe.evaluation

        # Draw what the requests name.
        requests = plan_requests(settings.images_per_part, settings.seed)
        images = draw_images(
            open_pipeline(spec.model_folder),
            [request.prompt for request in requests],
            [request.seed for request in requests],
            settings.steps,
            settings.guidance,
        )
        np.save(folder / "images.npy", images)

        judged = load_judges(spec.judges_folder).classify(images)
        return {"rows": tabulate(requests, judged), "confusions": count_confusions(requests, judged)}

    # The card is written anew each time; it reads the receipts of all stages.
    receipt = finish_once(spec, "evaluation", produce)
    stages = ("pools", "autoencoder", "clip", "judges", "diffusion", "image_tower", "export", "evaluation")
    receipts = [json.loads((spec.folder(stage) / "receipt.json").read_text()) for stage in stages]
    write_card(spec.model_folder / "README.md", spec.recipe, receipts)
    return receipt


def _open_autoencoder(spec: TrainingJob) -> AutoencoderKL:
    """Return the trained autoencoder."""
    return AutoencoderKL.from_pretrained(spec.folder("autoencoder") / "model")


def _open_clip(spec: TrainingJob, stage: str = "clip") -> tuple[CLIPModel, CLIPTokenizer]:
    """Return CLIP as a stage left it, frozen, and its tokenizer."""
    model = CLIPModel.from_pretrained(spec.folder(stage) / "model")
    return model.requires_grad_(False), CLIPTokenizer.from_pretrained(spec.folder("clip") / "model")


def _measure_zero_shot(model: CLIPModel, tokenizer: CLIPTokenizer, held_out: Pool) -> float:
    """Return the share of held-out pictures whose part the model names right among "a photo of a PART"."""
    found = classify_zero_shot(model, tokenizer, held_out.images, [f"a photo of a {part}" for part in PARTS])
    return round(float((found == held_out.labels[:, 0]).mean()), 4)


def _embedder(spec: TrainingJob) -> Embed:
    """Return the function from texts to hidden states of the frozen text tower, in the pipeline's half precision."""
    clip, tokenizer = _open_clip(spec)
    tower = text_tower(clip).half().float()

    @torch.no_grad()
    def embed(texts: Sequence[str]) -> Conditioning:
        return Conditioning(tower(tokenize(tokenizer, list(texts))).last_hidden_state)

    return embed
