"""Settings for pre-training an image encoder on a published version, one model per use of the masks.

Tailforge chose all defaults without a source in their description; docs/benchmarks/masks.md has the measurements.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tailforge.schemas.settings.fields import Share, Strict

Layers = Annotated[int, Field(ge=1, le=64)]
Size = Annotated[int, Field(ge=1, le=4096)]
Weight = Annotated[float, Field(ge=0, le=1000)]


class PretrainSettings(Strict):
    """Base of all uses: the optimiser, the views and the shape of the encoder, a vision transformer."""

    steps: int = Field(ge=1, le=10_000_000, description="Optimiser steps.")
    batch: int = Field(64, ge=2, le=65_536, description="Images per step.")
    learning_rate: float = Field(gt=0, le=1, description="Highest rate of AdamW; it falls to 0 by half a cosine.")
    warm_up: Share = Field(0.1, description="Share of the steps with a rising learning rate.")
    weight_decay: float = Field(0.05, ge=0, le=1, description="Weight decay of AdamW.")
    ema_decay: float = Field(
        0.97, ge=0, lt=1, description="Decay of the averaged weights, which are saved and form the momentum branch."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of weights, order and all random numbers of a step.")
    smallest_crop: float = Field(0.4, gt=0, le=1, description="Views are crops of at least this share of the image.")
    flip: bool = Field(True, description="Mirror half of the views.")
    turn: bool = Field(True, description="Turn views by quarters; off where up and down differ.")
    jitter: float = Field(0.3, ge=0, le=1, description="Strength of changes of brightness, contrast and colour.")
    patch_px: int = Field(8, ge=1, le=256, description="Side of a patch in pixels; divides the side of the images.")
    width: int = Field(128, ge=8, le=4096, multiple_of=4, description="Features per patch.")
    layers: int = Field(4, ge=1, le=64, description="Transformer layers.")
    heads: int = Field(4, ge=1, le=64, description="Attention heads; divides the width.")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "PretrainSettings":
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, which {self.heads} heads do not divide")
        return self


class ContrastiveSettings(PretrainSettings):
    """Contrastive training: two views of an image must agree, as wholes and region by region."""

    use: Literal["contrastive"] = "contrastive"
    steps: int = Field(1000, ge=1, le=10_000_000)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    temperature: float = Field(0.2, gt=0, le=10, description="Temperature of both softmaxes.")
    region_weight: Weight = Field(1.0, description="Weight of the regions' loss (lambda); the images' loss has 1.")
    hidden: Size = Field(256, description="Width inside projector and predictor.")
    projection: Size = Field(64, description="Dimensions of the compared features.")
    grey: Share = Field(0.2, description="Share of the views without colour.")


class MaskedSettings(PretrainSettings):
    """Masked training: reconstruct hidden patches from visible ones."""

    use: Literal["masked"] = "masked"
    steps: int = Field(2000, ge=1, le=10_000_000)
    learning_rate: float = Field(2e-3, gt=0, le=1)
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="Share of hidden patches.")
    beta: Weight = Field(2.0, description="Preference for hiding patches of regions; rises from 0 to this value.")
    gamma: Weight = Field(1.0, description="Additional weight of region patches in the loss.")
    outline_weight: Weight = Field(4.0, description="Weight of predicting the pixels of regions; colours have 1.")
    visible_floor: float = Field(0.125, ge=0, lt=1, description="Smallest visible share of a region's patches.")
    decoder_width: int = Field(64, ge=8, le=4096, multiple_of=8, description="Features per patch in the decoder.")
    decoder_layers: Layers = Field(1, description="Transformer layers of the decoder.")
    normalise: bool = Field(True, description="Normalise each patch's pixels by its own mean and deviation.")


class CaptionSettings(PretrainSettings):
    """Caption training: match images with their captions, which also name the positions of regions."""

    use: Literal["caption"] = "caption"
    steps: int = Field(1000, ge=1, le=10_000_000)
    learning_rate: float = Field(2e-3, gt=0, le=1)
    position_weight: Weight = Field(1.0, description="Weight of the loss that distinguishes positions.")
    word_weight: Weight = Field(1.0, description="Weight of the loss that assigns each patch the word of its region.")
    text_width: int = Field(64, ge=8, le=4096, description="Features per token.")
    text_layers: Layers = Field(2, description="Transformer layers of the text encoder.")
    text_heads: Layers = Field(2, description="Attention heads of the text encoder; divides text_width.")
    projection: Size = Field(64, description="Dimensions of the compared features.")
    vocabulary: int = Field(1000, ge=520, le=60_000, description="Most tokens, the 512 single bytes included.")

    @model_validator(mode="after")
    def _heads_share_the_text_width(self) -> "CaptionSettings":
        if self.text_width % self.text_heads:
            raise ValueError(f"text_width is {self.text_width}, which {self.text_heads} text_heads do not divide")
        return self


AnyPretrainSettings = ContrastiveSettings | MaskedSettings | CaptionSettings
USES: Mapping[str, type[ContrastiveSettings] | type[MaskedSettings] | type[CaptionSettings]] = {
    "contrastive": ContrastiveSettings,
    "masked": MaskedSettings,
    "caption": CaptionSettings,
}
