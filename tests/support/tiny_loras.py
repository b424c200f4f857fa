"""LoRA files of random factors for the tiny pipelines, in the forms of diffusers and of kohya's scripts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

RANK = 3
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "q_proj", "v_proj", "out_proj", "fc1")
FORMS = ("diffusers", "kohya")
KOHYA = {"unet": "lora_unet", "text_encoder": "lora_te", "text_encoder_2": "lora_te2"}


def draw_factors(pipeline: Any, seed: int = 0, size: float = 0.3) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
    """Random B and A of the attention, feed-forward and text layers of a pipeline: by part and layer."""
    draws = torch.Generator().manual_seed(seed)
    found = {}
    for part in KOHYA:
        network = getattr(pipeline, part, None)
        for name, module in network.named_modules() if network is not None else ():
            if isinstance(module, nn.Linear) and name.endswith(TARGETS):
                up = size * torch.randn(module.out_features, RANK, generator=draws)
                down = size * torch.randn(RANK, module.in_features, generator=draws)
                found[part, name] = up, down
    return found


def save_lora(
    file: Path, factors: Mapping[tuple[str, str], tuple[Tensor, Tensor]], form: str = "diffusers", alpha: float = RANK
) -> Path:
    """Write factors as one of the FORMS. Alpha is kohya's; a file of diffusers without a note has none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    double = any(part == "text_encoder_2" for part, _ in factors)
    for (part, name), (up, down) in factors.items():
        whole = name if part == "unet" or name.startswith("text_model.") else f"text_model.{name}"
        if form == "diffusers":
            tensors |= {f"{part}.{whole}.lora_A.weight": down, f"{part}.{whole}.lora_B.weight": up}
            continue
        prefix = "lora_te1" if double and part == "text_encoder" else KOHYA[part]
        base = f"{prefix}_{whole.replace('.', '_')}"
        tensors |= {
            f"{base}.lora_down.weight": down,
            f"{base}.lora_up.weight": up,
            f"{base}.alpha": torch.tensor(alpha),
        }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file
