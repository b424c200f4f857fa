"""Train a small CLIP (Radford et al. 2021). Its text tower is the generator's text encoder; both towers score pictures.

It differs from the paper in two ways, since the world is small and the training short. First, several captions of a
batch may be true of one picture, so all true pairs of a row or column share its target. Second, a linear head names
part, material and surface from the embeddings of both towers. The head is thrown away afterwards.
Letters of shapes: M texts, N pictures, B of a batch, D features, H and W pixel rows and columns, S tokens.
"""

import json

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
    Saved,
    degrade,
    learn_steps,
    numpy_draws,
    torch_draws,
    warm_up_then_cosine,
)
from tailforge.tasks.methods.workshop import MATERIALS, PARTS, SURFACES

VERSION = "clip.2"
TOWER_VERSION = "image-tower.2"
WORDING = Wording(other_template=0.5, synonym=0.4, no_part=0.05, no_material=0.3, no_surface=0.4)
HEADS = [len(PARTS), len(MATERIALS), len(SURFACES)]
HEAD_SCALE = 10.0  # of the unit vectors, whose softmax would be too flat
LARGEST_SCALE = 4.6052  # ln 100, the bound of the paper


def train_tokenizer(texts: list[str], vocabulary: int, tokens: int) -> CLIPTokenizer:
    """Train a byte-level BPE tokenizer in CLIP's form. All single bytes are tokens, so it can write every text.

    `vocabulary`: tokens at most. `tokens`: length that prompts are padded or cut to (77 in the large models).
    """
    # Learn merges with CLIP's own splitting of words.
    pipeline = CLIPTokenizer().backend_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - 258, end_of_word_suffix="</w>", show_progress=False)
    pipeline.train_from_iterator(texts, trainer)
    learned = _learned_merges(pipeline.to_str())

    # The vocabulary in CLIP's order: bytes, bytes at a word's end, merges, start and end.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(pair) for pair in learned)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: number for number, word in enumerate(dict.fromkeys(words))},
        merges=learned,
        model_max_length=tokens,
    )


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return token ids int64 [N, S], padded and cut to the tokenizer's length as the diffusers pipelines do it."""
    length = tokenizer.model_max_length
    encoded = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    ids: Tensor = encoded["input_ids"]
    return ids


def build_clip(settings: ClipSettings, tokenizer: CLIPTokenizer, size_px: int, seed: int) -> CLIPModel:
    """Build an untrained CLIP for pictures of `size_px`, with towers of `settings.width`."""
    torch.manual_seed(seed)

    # Both towers have the same width; a head of attention has 32 features.
    tower = {
        "hidden_size": settings.width,
        "intermediate_size": settings.width * 4,
        "num_attention_heads": settings.width // 32,
        "projection_dim": settings.projection,
    }

    # The text tower reads the tokenizer's ids; the token of the end marks where a text's embedding is read.
    text = tower | {
        "num_hidden_layers": settings.text_layers,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": settings.tokens,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }

    # The image tower sees the picture as square patches.
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
    saved: Saved,
    observe: Observe,
) -> CLIPModel:
    """Train on pictures [N, H, W, 3] with labels [N, 3] and fresh captions; return the averaged weights, frozen.

    `saved`: a state to resume from. Errors: TrainingError.
    """
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
    saved: Saved,
    observe: Observe,
) -> CLIPModel:
    """Train only the image tower further, on pictures [N, H, W, 3] with labels [N, 3]; return `model`.

    The text tower stays as it is, since a generator depends on it. The pictures are degraded as for the judges, because
    the tower will read generated pictures, which are less crisp than renders. Errors: TrainingError.
    """
    # Only what leads from pixels to the embedding learns.
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
    saved: Saved,
    observe: Observe,
    *,
    crisp: bool,
) -> None:
    """Train the module `trained`, all of `model` or a part of it, with a head that is thrown away."""
    torch.manual_seed(seed)

    # The head that names things learns beside the model.
    heads = nn.Linear(settings.projection, sum(HEADS))
    learner = Learner({"clip": trained, "heads": heads}, settings.ema_decay, weight_decay=0.05)

    def loss_at(step: int) -> Tensor:
        # Draw pictures and word their captions.
        draws = numpy_draws(seed, step)
        rows = draws.integers(len(images), size=settings.batch)
        labels = labels_N3[rows]
        texts, claims = draw_captions(labels, WORDING, draws)

        # Turn the pictures; a tower that will read generated ones sees them less crisp.
        pixels = to_tensor(_turn(images[rows], draws))
        pixels = pixels if crisp else degrade(pixels, torch_draws(seed, step))

        # Match captions with pictures, and name both.
        text, picture = embed_pairs(model, tokenize(tokenizer, texts), pixels)
        matched = contrastive_loss(score_pairs(model, text, picture), find_true_pairs(labels, claims))
        return matched + _naming_loss(heads, text, claims) + _naming_loss(heads, picture, labels)

    rate = warm_up_then_cosine(settings.learning_rate, steps, steps // 20)
    learn_steps(learner, steps, loss_at, rate, saved, observe)

    # The averaged weights are the result.
    learner.load_average()
    model.eval().requires_grad_(False)


def find_true_pairs(labels_N3: NDArray[np.int16], claims_M3: NDArray[np.int16]) -> Tensor:
    """Return bool [M, N]: whether each caption is true of each picture. What a caption leaves out cannot be wrong."""
    # Compare every caption's three claims with every picture's three labels.
    claimed, actual = claims_M3[:, None, :], labels_N3[None, :, :]
    return torch.from_numpy(((claimed == UNSAID) | (claimed == actual)).all(axis=2))


def contrastive_loss(logits_MN: Tensor, true_MN: Tensor) -> Tensor:
    """Return the mean cross-entropy of both softmaxes of logits [M, N], a scalar.

    The true pairs [M, N] of a row, or of a column, share its target evenly.
    """
    # A row is a text's softmax over pictures, a column a picture's over texts.
    target = true_MN.to(logits_MN.dtype)
    over_images = -(target / target.sum(1, keepdim=True) * F.log_softmax(logits_MN, 1)).sum(1)
    over_texts = -(target / target.sum(0, keepdim=True) * F.log_softmax(logits_MN, 0)).sum(0)
    return (over_images.mean() + over_texts.mean()) / 2


@torch.no_grad()
def classify_zero_shot(
    model: CLIPModel, tokenizer: CLIPTokenizer, images: NDArray[np.uint8], texts: list[str]
) -> NDArray[np.int64]:
    """Return the position of the best text for each picture of [N, H, W, 3]: [N]."""
    # In parts that fit into memory; the texts are embedded anew for each.
    found = []
    for first in range(0, len(images), 256):
        pixels = to_tensor(images[first : first + 256])
        found.append(score_pairs(model, *embed_pairs(model, tokenize(tokenizer, texts), pixels)).argmax(0))
    return torch.cat(found).numpy()


def embed_pairs(model: CLIPModel, input_ids: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit vectors of texts, from ids [M, S] to [M, D], and of pictures, from pixels [N, 3, H, W] to [N, D]."""
    picture = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    return embed_texts(model, input_ids), F.normalize(picture, dim=1)


def embed_texts(model: CLIPModel, input_ids: Tensor) -> Tensor:
    """Return unit vectors [M, D] of texts with ids [M, S]."""
    return F.normalize(model.text_projection(model.text_model(input_ids=input_ids).pooler_output), dim=1)


def score_pairs(model: CLIPModel, text_MD: Tensor, picture_ND: Tensor) -> Tensor:
    """Return the scaled cosine of every text [M, D] with every picture [N, D]: [M, N]."""
    # The scale is learnt, up to the bound of the paper.
    scores: Tensor = (text_MD @ picture_ND.T) * model.logit_scale.clamp(max=LARGEST_SCALE).exp()
    return scores


def _naming_loss(heads: nn.Linear, embedded_ND: Tensor, labels_N3: NDArray[np.int16]) -> Tensor:
    """Return the mean cross-entropy of part, material and surface, over the embeddings [N, D] whose labels say them."""
    # One linear layer gives the logits of all three questions.
    named = heads(embedded_ND * HEAD_SCALE).split(HEADS, dim=1)
    targets = torch.from_numpy(np.array(labels_N3, dtype=np.int64))

    # What a caption leaves out is not asked; a batch in which no caption says it adds 0.
    total = embedded_ND.new_zeros(())
    for head, target in zip(named, targets.T, strict=True):
        said = (target != UNSAID).sum().clamp(min=1)
        total = total + F.cross_entropy(head, target, ignore_index=UNSAID, reduction="sum") / said
    return total / len(HEADS)


def _turn(images: NDArray[np.uint8], draws: np.random.Generator) -> NDArray[np.uint8]:
    """Return the batch [B, H, W, 3], turned as a whole by one of the eight symmetries of the square."""
    # One of four quarter turns, mirrored or not.
    turned = np.rot90(images, k=int(draws.integers(4)), axes=(1, 2))
    return turned[:, :, ::-1] if draws.random() < 0.5 else turned


def _learned_merges(pipeline_json: str) -> list[tuple[str, str]]:
    """Return the merges of a trained tokenizer, the first learnt first."""
    return [(first, second) for first, second in json.loads(pipeline_json)["model"]["merges"]]
