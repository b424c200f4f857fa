"""A tiny random CLIP directory of the real classes, for tests of whatever loads one."""

from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

SIDE = 32
CONTEXT = 16


def save_clip(folder: Path) -> None:
    """CLIPModel, CLIPTokenizer and image preparation for 32 x 32 images; vectors of 8 numbers."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = CLIPConfig(
        projection_dim=8,
        text_config={
            "vocab_size": len(words), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": CONTEXT, "projection_dim": 8,
            "bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1,
        },
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": SIDE, "patch_size": 8, "projection_dim": 8,
        },
    )  # fmt: skip
    model = CLIPModel(config)
    with torch.no_grad():
        for parameter in model.parameters():  # far from zero, so that different inputs give different vectors
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        f'{{"size": {{"shortest_edge": {SIDE}}}, "crop_size": {{"height": {SIDE}, "width": {SIDE}}}, "resample": 3,'
        ' "do_center_crop": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],'
        ' "image_std": [0.26862954, 0.26130258, 0.27577711]}'
    )
