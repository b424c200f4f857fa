"""Embed images and texts with a CLIP model of transformers (arXiv 2103.00020).

Pillow and numpy prepare the images by the model's own configuration. The image processors of transformers would depend
on its version and on other installed packages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, CLIPModel

from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.tasks.models.cache import load_once
from tailforge.tasks.models.generator_files import read_json
from tailforge.tasks.models.kinds import SCORER, check_clip
from tailforge.tasks.models.pretrained import load_weights, model_folder

BATCH_SIZE = 32

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Preparation:
    """The preparation of a picture as the model's input. The defaults are those of the published CLIP."""

    size: tuple[int, int] | int  # (height, width), or the length of the shorter side
    crop: tuple[int, int] | None
    resample: int = Image.Resampling.BICUBIC
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the input [3, height, width] for an RGB image [h, w, 3]."""
        # Scale to the model's size.
        image = Image.fromarray(pixels, "RGB")
        height, width = self.target(image.height, image.width)
        scaled = np.asarray(image.resize((width, height), self.resample)).astype(np.float32) / np.float32(255)

        # Crop, normalise each channel, and move the channels first.
        if self.crop is not None:
            scaled = _crop_centre(scaled, *self.crop)
        normal = (scaled - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(normal.transpose(2, 0, 1))

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the size (height, width) to which an image of this size is scaled before the crop, in pixels."""
        if isinstance(self.size, tuple):
            return self.size
        short, long = min(height, width), max(height, width)
        longer = int(self.size * long / short)
        return (self.size, longer) if height <= width else (longer, self.size)


class ClipScorer:
    """A CLIP model that embeds images and texts. A vector does not depend on the rest of its batch (up to 1e-5)."""

    def __init__(self, model: Any, tokenizer: Any, preparation: Preparation) -> None:
        self.model, self.tokenizer, self.preparation = model, tokenizer, preparation
        self.device: torch.device = next(model.parameters()).device
        self.max_tokens = int(self.model.config.text_config.max_position_embeddings)

    @torch.inference_mode()
    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> Vectors:
        """Return unit vectors, float32 [N, D], of N RGB images [height, width, 3]."""
        return self._embed(images, self._image_features)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, float32 [N, D], of N texts. The model cuts a text longer than its context."""
        return self._embed(texts, self._text_features)

    def embed_pixels(self, images: Tensor) -> Tensor:
        """Return features [B, D], not normalised and differentiable, of images [B, 3, height, width] in -1..1.

        Images of every size are prepared alike, with antialiasing, so references and generated images are comparable.
        """
        # From -1..1 to 0..1, scaled to the model's size.
        preparation = self.preparation
        height, width = preparation.target(*images.shape[-2:])
        scaled = images.to(self.device, torch.float32) * 0.5 + 0.5
        if (height, width) != tuple(images.shape[-2:]):
            scaled = functional.interpolate(scaled, (height, width), mode="bicubic", antialias=True).clamp(0, 1)

        # Crop and normalise, then read the features before their normalisation.
        if preparation.crop is not None:
            scaled = _centre_tensor(scaled, *preparation.crop)
        mean, std = (scaled.new_tensor(value).view(1, -1, 1, 1) for value in (preparation.mean, preparation.std))
        features: Tensor = self.model.visual_projection(
            self.model.vision_model(pixel_values=(scaled - mean) / std).pooler_output
        )
        return features

    def _embed(self, items: Sequence[Any], features: Any) -> Vectors:
        # Batch by batch, then scaled to length 1.
        parts = [features(items[start : start + BATCH_SIZE]) for start in range(0, len(items), BATCH_SIZE)]
        if not parts:
            return np.zeros((0, int(self.model.config.projection_dim)), np.float32)
        vectors: Vectors = functional.normalize(torch.cat(parts).float(), dim=-1).cpu().numpy()
        return vectors

    def _image_features(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        pixels = torch.from_numpy(np.stack([self.preparation(image) for image in images])).to(self.device)
        features: Tensor = self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)
        return features

    def _text_features(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.device)
        output = self.model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        features: Tensor = self.model.text_projection(output.pooler_output)
        return features


def load_clip(model: ResolvedModel) -> ClipScorer:
    """Load a CLIP model, once per process. Errors: ModelError that names the missing or damaged file."""
    return load_once(("clip", model.digest), lambda: _load(model))


def _load(model: ResolvedModel) -> ClipScorer:
    folder = model_folder(model, SCORER)
    check_clip(folder)
    weights = load_weights(CLIPModel, folder, SCORER)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise many classes for a damaged file
        raise ModelError(f"{SCORER}: tokenizer of {folder} cannot be loaded: {error}") from error
    return ClipScorer(weights, tokenizer, read_preparation(folder))


def read_preparation(folder: Path) -> Preparation:
    """Read the preparation from preprocessor_config.json or processor_config.json of a folder.

    Without both files, return that of the published CLIP at the model's image size. Errors: ModelError for a file that
    is no JSON.
    """
    # The image processor's configuration stands in one of two files.
    vision = read_json(folder / "config.json").get("vision_config", {})
    config: Mapping[str, Any] = {}
    if (folder / "preprocessor_config.json").is_file():
        config = read_json(folder / "preprocessor_config.json")
    elif (folder / "processor_config.json").is_file():
        config = read_json(folder / "processor_config.json").get("image_processor", {})

    # Sizes are numbers, or objects with height and width or the shorter side.
    side = int(vision.get("image_size", 224))
    size, crop = config.get("size", side), config.get("crop_size", side)
    if isinstance(size, dict):
        size = size["shortest_edge"] if "shortest_edge" in size else (size["height"], size["width"])
    if isinstance(crop, dict):
        crop = crop["height"], crop["width"]
    return Preparation(
        size=size,
        crop=((crop, crop) if isinstance(crop, int) else crop) if config.get("do_center_crop", True) else None,
        resample=config.get("resample", Preparation.resample),
        mean=tuple(config.get("image_mean", Preparation.mean)),
        std=tuple(config.get("image_std", Preparation.std)),
    )


def _crop_centre(pixels: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return the centre [height, width, 3] of an image [h, w, 3], padded with black if the image is smaller."""
    # CLIP's own preparation pads in the same way.
    pad = [(max(0, (want - have + 1) // 2),) * 2 for want, have in zip((height, width), pixels.shape, strict=False)]
    pixels = np.pad(pixels, [*pad, (0, 0)])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def _centre_tensor(images: Tensor, height: int, width: int) -> Tensor:
    """Return the centre [B, 3, height, width] of images [B, 3, h, w], padded with black if they are smaller."""
    # Pad both sides alike, then crop.
    rows, columns = images.shape[-2:]
    down, across = max(0, (height - rows + 1) // 2), max(0, (width - columns + 1) // 2)
    images = functional.pad(images, (across, across, down, down))
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]
