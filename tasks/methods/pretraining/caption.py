"""Pre-train on captions: images and texts find each other (CLIP, arXiv 2103.00020), and texts name regions' places.

Our choices beside those of positions.py and words.py: a text that is true of several images of a batch is a negative
of none of them, as generated captions repeat. An image also chooses its sentence among those of every block and noun
of the batch. Captions alone separate most images of a batch, so the places would stay unread.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from tailforge.schemas.training.pretraining import CaptionSettings
from tailforge.tasks.methods.classifiers.train import draw_rows
from tailforge.tasks.methods.embedded.clip import contrastive_loss, embed_texts, score_pairs, tokenize, train_tokenizer
from tailforge.tasks.methods.pretraining.encoders import describe_encoder, start_encoder
from tailforge.tasks.methods.pretraining.fitting import PretrainLearner, fit
from tailforge.tasks.methods.pretraining.positions import Spoken, place_nouns, say_everywhere, shorten, speak
from tailforge.tasks.methods.pretraining.regions import ABSENT, Regions, share_patches, surest_things
from tailforge.tasks.methods.pretraining.views import Pixels, RegionViews
from tailforge.tasks.methods.pretraining.words import name_all, share_words, word_loss
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.training_loop import Observe, Saved, numpy_draws

VERSION = "caption.2"
LONGEST = 77  # tokens of a text at most, as in CLIP


def train_caption(
    images: Pixels,
    captions: Sequence[str],
    nouns: Sequence[str],
    regions: Regions | None,
    settings: CaptionSettings,
    saved: Saved,
    observe: Observe,
) -> tuple[CLIPModel, Tensor, CLIPTokenizer]:
    """Return the model with averaged weights, frozen, the losses [steps], and the tokenizer.

    `nouns` names the regions' categories, 1 first; without regions, images find their captions alone.
    """
    # The vocabulary is learnt from the captions and the sentences about places.
    captions = [shorten(caption) for caption in captions]
    tokenizer = fit_tokenizer(captions, nouns, settings.vocabulary)
    torch.manual_seed(settings.seed)
    model = build_caption(settings, tokenizer, images.shape[1])
    learner = PretrainLearner({"model": model}, settings)
    views = RegionViews(images.shape[1], settings)

    def loss_at(step: int) -> Tensor:
        # Views of this step's images; seed and step alone decide them.
        rows = draw_rows(len(images), settings.batch, settings.seed, step)
        view = views.draw(images[rows], None if regions is None else regions.areas[rows], step)
        seen = model.vision_model(pixel_values=to_tensor(view.pixels))
        told, draws = [captions[row] for row in rows], numpy_draws(settings.seed, step)
        if regions is None or view.areas is None:
            spoken = speak(told, [{} for _ in rows], [], draws)
            return caption_loss(model, tokenizer, seen.pooler_output, spoken, settings.position_weight)

        # The nouns of the batch, and the sentences that are true of each view.
        own, scores = regions.nouns[rows], regions.scores[rows]
        present = np.unique(own[:, 1:][own[:, 1:] != ABSENT])
        named = [nouns[noun - 1] for noun in present.tolist()]
        spoken = speak(told, place_nouns(view.areas[:, 1:], own[:, 1:], scores[:, 1:], nouns), named, draws)
        loss = caption_loss(model, tokenizer, seen.pooler_output, spoken, settings.position_weight)
        # The class projects the class token alone. Patches pass the same layers, so they read the same words.
        patches = model.vision_model.post_layernorm(seen.last_hidden_state[:, 1:])
        words = embed_texts(model, tokenize(tokenizer, name_all(named)))
        choice = score_pairs(model, embed_pictures(model, patches), words)
        shown = share_words(share_patches(view.areas, settings.patch_px), own, present)
        return loss + settings.word_weight * word_loss(choice, shown, surest_things(own, scores))

    fit(learner, loss_at, settings, saved, observe)
    return model.eval().requires_grad_(False), learner.losses, tokenizer


def fit_tokenizer(captions: Sequence[str], nouns: Sequence[str], vocabulary: int) -> CLIPTokenizer:
    """Fit a tokenizer to these captions and the sentences about these nouns; it pads to the longest possible text."""
    sentences = say_everywhere(nouns)
    tokenizer = train_tokenizer([*captions, *sentences, *name_all(nouns)], vocabulary, LONGEST)

    def count(text: str) -> int:
        return len(tokenizer(text, truncation=True)["input_ids"])

    # Positions are learnt for the longest caption with the longest sentence.
    longest = max(sentences, key=count)
    tokenizer.model_max_length = max(count(f"{caption}. {longest}") for caption in set(captions))
    return tokenizer


def build_caption(settings: CaptionSettings, tokenizer: CLIPTokenizer, size_px: int) -> CLIPModel:
    """Return an untrained CLIP."""
    # The text tower is as long as the longest text of the tokenizer.
    text = {
        "hidden_size": settings.text_width,
        "intermediate_size": 4 * settings.text_width,
        "num_attention_heads": settings.text_heads,
        "num_hidden_layers": settings.text_layers,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "projection_dim": settings.projection,
    }

    # The image tower has the shape of all encoders here.
    vision = describe_encoder(settings, size_px) | {"projection_dim": settings.projection}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings.projection))
    tower = model.vision_model
    embeddings = tower.embeddings
    start_encoder(tower, embeddings.position_embedding.weight, embeddings.patch_embedding)
    return model


def embed_pictures(model: CLIPModel, pooled: Tensor) -> Tensor:
    """Return unit vectors [..., D'] of the vision tower's output [..., D] after its last norm."""
    return F.normalize(model.visual_projection(pooled), dim=-1)


def caption_loss(
    model: CLIPModel, tokenizer: CLIPTokenizer, pooled: Tensor, spoken: Spoken, position_weight: float
) -> Tensor:
    """Return CLIP's loss of a batch with pooled features [B, D], plus the weighted choice of sentences."""
    # CLIP's loss; a text that is true of several images is a negative of none.
    picture, text = embed_pictures(model, pooled), embed_texts(model, tokenize(tokenizer, spoken.texts))
    loss = contrastive_loss(score_pairs(model, text, picture), spoken.true)
    seen = spoken.targets.sum(1) > 0
    if not position_weight or not seen.any():
        return loss

    # Ours: images with a region in view choose among all sentences of the batch.
    sentences = embed_texts(model, tokenize(tokenizer, spoken.sentences))
    scores = score_pairs(model, sentences, picture[seen]).T
    return loss + position_weight * sentence_loss(scores, spoken.targets[seen])


def sentence_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross entropy of an image's softmax over sentences [B, S], true ones by `targets` [B, S].

    An image counts as much as its surest region.
    """
    # True sentences share an image's target in proportion to their confidence.
    shares = targets / targets.sum(1, keepdim=True)
    losses = -(shares * F.log_softmax(scores, 1)).sum(1)
    return (targets.amax(1) * losses).mean()
