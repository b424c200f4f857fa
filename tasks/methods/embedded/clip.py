"""A small CLIP (Radford et al. 2021): its text tower is the generator's text encoder, its pair scores pictures.

Two choices are ours, for a small world and a short training. Captions that are true of the same picture are not
negatives of each other: the targets of the two softmaxes are shared among all true pairs of the batch. And a linear
head, shared by both towers and thrown away afterwards, names part, material and surface from the embedding of either.
"""

import json
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tokenizers import pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from tailforge.schemas.training.embedded import ClipSettings
from tailforge.tasks.methods.embedded.captions import UNSAID, Wording, draw_captions
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.training_loop import (
    Learner,
    Observe,
    degrade,
    numpy_draws,
    restore,
    run_steps,
    torch_draws,
    warm_up_then_cosine,
)
from tailforge.tasks.methods.workshop import MATERIALS, PARTS, SURFACES

VERSION = "clip.2"
TOWER_VERSION = "image-tower.2"
WORDING = Wording(other_template=0.5, synonym=0.4, no_part=0.05, no_material=0.3, no_surface=0.4)
HEADS = [len(PARTS), len(MATERIALS), len(SURFACES)]
HEAD_SCALE = 10.0  # unit vectors alone make too flat a softmax
LARGEST_SCALE = 4.6052  # ln 100, the bound of the paper


def train_tokenizer(texts: list[str], vocabulary: int, tokens: int) -> CLIPTokenizer:
    """Byte-level BPE in CLIP's form; all single bytes are tokens, so every text can be written.

    `tokens` is the length prompts are padded or cut to (77 in the large models).
    """
    pipeline = CLIPTokenizer().backend_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - 258, end_of_word_suffix="</w>", show_progress=False)
    pipeline.train_from_iterator(texts, trainer)
    learned = _learned_merges(pipeline.to_str())
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(pair) for pair in learned)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: number for number, word in enumerate(dict.fromkeys(words))},
        merges=learned,
        model_max_length=tokens,
    )


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """int64 [N, model_max_length], padded and cut as the diffusers pipelines do it."""
    length = tokenizer.model_max_length
    encoded = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    ids: Tensor = encoded["input_ids"]
    return ids


def build_clip(settings: ClipSettings, tokenizer: CLIPTokenizer, size_px: int, seed: int) -> CLIPModel:
    """An untrained CLIP with towers of `settings.width`."""
    torch.manual_seed(seed)
    tower = {
        "hidden_size": settings.width,
        "intermediate_size": settings.width * 4,
        "num_attention_heads": settings.width // 32,
        "projection_dim": settings.projection,
    }
    text = tower | {
        "num_hidden_layers": settings.text_layers,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": settings.tokens,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = tower | {
        "num_hidden_layers": settings.vision_layers,
        "image_size": size_px,
        "patch_size": settings.patch_px,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings.projection))


def train_clip(
    images: NDArray[np.uint8],
    labels_N3: NDArray[np.int16],
    tokenizer: CLIPTokenizer,
    settings: ClipSettings,
    seed: int,
    saved: Mapping[str, Tensor] | None,
    observe: Observe,
) -> CLIPModel:
    """Train on pictures and freshly worded captions; returns the averaged weights, frozen."""
    model = build_clip(settings, tokenizer, images.shape[1], seed)
    _fit(model, model, images, labels_N3, tokenizer, settings, settings.steps, seed, saved, observe, crisp=True)
    return model


def tune_image_tower(
    model: CLIPModel,
    images: NDArray[np.uint8],
    labels_N3: NDArray[np.int16],
    tokenizer: CLIPTokenizer,
    settings: ClipSettings,
    seed: int,
    saved: Mapping[str, Tensor] | None,
    observe: Observe,
) -> CLIPModel:
    """Train the image tower of `model` on, the text tower frozen, as a generator depends on it; returns `model`.

    The pictures are degraded as for the judges: the tower is to read generated pictures, which are less crisp.
    """
    towers = nn.ModuleDict({"tower": model.vision_model, "projection": model.visual_projection})
    towers.requires_grad_(True)
    _fit(model, towers, images, labels_N3, tokenizer, settings, settings.image_steps, seed, saved, observe, crisp=False)
    return model


def _fit(
    model: CLIPModel,
    trained: nn.Module,
    images: NDArray[np.uint8],
    labels_N3: NDArray[np.int16],
    tokenizer: CLIPTokenizer,
    settings: ClipSettings,
    steps: int,
    seed: int,
    saved: Mapping[str, Tensor] | None,
    observe: Observe,
    *,
    crisp: bool,
) -> None:
    torch.manual_seed(seed)
    heads = nn.Linear(settings.projection, sum(HEADS))
    learner = Learner({"clip": trained, "heads": heads}, settings.ema_decay, weight_decay=0.05)
    if saved:
        restore(learner, saved)

    def loss_at(step: int) -> Tensor:
        draws = numpy_draws(seed, step)
        rows = draws.integers(len(images), size=settings.batch)
        labels = labels_N3[rows]
        texts, claims = draw_captions(labels, WORDING, draws)
        pixels = to_tensor(_turn(images[rows], draws))
        pixels = pixels if crisp else degrade(pixels, torch_draws(seed, step))
        text, picture = embed_pairs(model, tokenize(tokenizer, texts), pixels)
        matched = contrastive_loss(score_pairs(model, text, picture), find_true_pairs(labels, claims))
        return matched + _naming_loss(heads, text, claims) + _naming_loss(heads, picture, labels)

    run_steps(learner, steps, loss_at, warm_up_then_cosine(settings.learning_rate, steps, steps // 20), observe)
    learner.load_average()
    model.eval().requires_grad_(False)


def find_true_pairs(labels_N3: NDArray[np.int16], claims_M3: NDArray[np.int16]) -> Tensor:
    """bool [M, N]: does caption m hold for picture n? Whatever is UNSAID holds."""
    claimed, actual = claims_M3[:, None, :], labels_N3[None, :, :]
    return torch.from_numpy(((claimed == UNSAID) | (claimed == actual)).all(axis=2))


def contrastive_loss(logits_MN: Tensor, true_MN: Tensor) -> Tensor:
    """Cross-entropy of both softmaxes against targets shared among the true pairs of a row or column."""
    target = true_MN.to(logits_MN.dtype)
    over_images = -(target / target.sum(1, keepdim=True) * F.log_softmax(logits_MN, 1)).sum(1)
    over_texts = -(target / target.sum(0, keepdim=True) * F.log_softmax(logits_MN, 0)).sum(0)
    return (over_images.mean() + over_texts.mean()) / 2


@torch.no_grad()
def classify_zero_shot(
    model: CLIPModel, tokenizer: CLIPTokenizer, images: NDArray[np.uint8], texts: list[str]
) -> NDArray[np.int64]:
    """Position of the best text for each picture: [N]."""
    found = []
    for first in range(0, len(images), 256):
        pixels = to_tensor(images[first : first + 256])
        found.append(score_pairs(model, *embed_pairs(model, tokenize(tokenizer, texts), pixels)).argmax(0))
    return torch.cat(found).numpy()


def embed_pairs(model: CLIPModel, input_ids: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors of the texts [M, D] and of the pictures [N, D]."""
    picture = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    return embed_texts(model, input_ids), F.normalize(picture, dim=1)


def embed_texts(model: CLIPModel, input_ids: Tensor) -> Tensor:
    """Unit vectors of the texts: [M, D]."""
    return F.normalize(model.text_projection(model.text_model(input_ids=input_ids).pooler_output), dim=1)


def score_pairs(model: CLIPModel, text_MD: Tensor, picture_ND: Tensor) -> Tensor:
    """Scaled cosine of every text with every picture: [M, N]."""
    scores: Tensor = (text_MD @ picture_ND.T) * model.logit_scale.clamp(max=LARGEST_SCALE).exp()
    return scores


def _naming_loss(heads: nn.Linear, embedded_ND: Tensor, labels_N3: NDArray[np.int16]) -> Tensor:
    """Cross-entropy of part, material and surface where they are said."""
    named = heads(embedded_ND * HEAD_SCALE).split(HEADS, dim=1)
    targets = torch.from_numpy(np.array(labels_N3, dtype=np.int64))
    total = embedded_ND.new_zeros(())
    for head, target in zip(named, targets.T, strict=True):
        said = (target != UNSAID).sum().clamp(min=1)
        total = total + F.cross_entropy(head, target, ignore_index=UNSAID, reduction="sum") / said
    return total / len(HEADS)


def _turn(images: NDArray[np.uint8], draws: np.random.Generator) -> NDArray[np.uint8]:
    """The whole batch turned by one of the eight symmetries of the square."""
    turned = np.rot90(images, k=int(draws.integers(4)), axes=(1, 2))
    return turned[:, :, ::-1] if draws.random() < 0.5 else turned


def _learned_merges(pipeline_json: str) -> list[tuple[str, str]]:
    return [(first, second) for first, second in json.loads(pipeline_json)["model"]["merges"]]
