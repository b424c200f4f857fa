"""Small random models of transformers with image processors, in folders, for tests of an evaluation."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

SIDE = 16
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
VIT: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": SIDE,
    "patch_size": 4, "num_labels": 5, "hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3,
}  # fmt: skip


def save_model(folder: Path, model: PreTrainedModel) -> Path:
    """Write a model and an image processor of SIDE pixels; return the folder."""
    model.save_pretrained(folder)
    processor = {
        "do_resize": True, "size": {"height": SIDE, "width": SIDE}, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": MEAN, "image_std": STD,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def save_vit(folder: Path) -> Path:
    """Write a vision transformer of five classes, with dropout."""
    torch.manual_seed(1)
    return save_model(folder, ViTForImageClassification(ViTConfig(**VIT)))


def save_encoder(folder: Path) -> Path:
    """Write the same transformer without a head."""
    torch.manual_seed(2)
    return save_model(folder, ViTModel(ViTConfig(**VIT), add_pooling_layer=False))


def save_resnet(folder: Path) -> Path:
    """Write a residual network of five classes."""
    torch.manual_seed(3)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5)
    return save_model(folder, ResNetForImageClassification(config))


def save_segformer(folder: Path) -> Path:
    """Write a segmenter of five classes, with dropout and stochastic depth."""
    torch.manual_seed(4)
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[3, 3], strides=[2, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=5, drop_path_rate=0.2,
        classifier_dropout_prob=0.2,
    )  # fmt: skip
    return save_model(folder, SegformerForSemanticSegmentation(config))
