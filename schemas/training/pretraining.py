"""Settings of pre-training an image encoder on a published version: one model a use of its masks.

Every default is a choice of ours unless its description names a source; what they were measured with is in
docs/benchmarks/masks.md.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tailforge.schemas.settings.fields import Share, Strict

Layers = Annotated[int, Field(ge=1, le=64)]
Size = Annotated[int, Field(ge=1, le=4096)]
Weight = Annotated[float, Field(ge=0, le=1000)]


class PretrainSettings(Strict):
    """What all uses share: the optimiser, the views and the shape of the encoder, a vision transformer."""

    steps: int = Field(ge=1, le=10_000_000)
    batch: int = Field(64, ge=2, le=65_536, description="Images in a step.")
    learning_rate: float = Field(gt=0, le=1, description="The highest; AdamW, half a cosine down to 0.")
    warm_up: Share = Field(0.1, description="Share of the steps in which the learning rate rises.")
    weight_decay: float = Field(0.05, ge=0, le=1)
    ema_decay: float = Field(
        0.97, ge=0, lt=1, description="Of the averaged weights, which are saved; also those of the momentum branch."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Of weights, order and every draw of a step.")
    smallest_crop: float = Field(0.4, gt=0, le=1, description="Views are crops of at least this share of the image.")
    flip: bool = Field(True, description="Mirror half of the views.")
    turn: bool = Field(True, description="Turn views by quarters; off where up and down differ.")
    jitter: float = Field(0.3, ge=0, le=1, description="Strength of changes of brightness, contrast and colour.")
    patch_px: int = Field(8, ge=1, le=256, description="Side of a patch; divides the side of the images.")
    width: int = Field(128, ge=8, le=4096, multiple_of=4, description="Features of a patch.")
    layers: int = Field(4, ge=1, le=64)
    heads: int = Field(4, ge=1, le=64, description="Attention heads; divides the width.")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "PretrainSettings":
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, which {self.heads} heads do not divide")
        return self


class ContrastiveSettings(PretrainSettings):
    """Two views of an image agree, as wholes and region by region."""

    use: Literal["contrastive"] = "contrastive"
    steps: int = Field(1000, ge=1, le=10_000_000)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    temperature: float = Field(0.2, gt=0, le=10, description="Of both softmaxes.")
    region_weight: Weight = Field(1.0, description="Of the regions' loss beside the images' loss; lambda.")
    hidden: Size = Field(256, description="Width inside projector and predictor.")
    projection: Size = Field(64, description="Dimensions in which views are compared.")
    grey: Share = Field(0.2, description="Share of the views without colour.")


class MaskedSettings(PretrainSettings):
    """Hidden patches are drawn from the visible ones."""

    use: Literal["masked"] = "masked"
    steps: int = Field(2000, ge=1, le=10_000_000)
    learning_rate: float = Field(2e-3, gt=0, le=1)
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="Share of the patches that is hidden.")
    beta: Weight = Field(2.0, description="How much rather patches of regions are hidden, at the end; rises from 0.")
    gamma: Weight = Field(1.0, description="How much more patches of regions count in the loss.")
    outline_weight: Weight = Field(4.0, description="Of drawing which pixels are in a region, beside their colours.")
    visible_floor: float = Field(0.125, ge=0, lt=1, description="Share of a region's patches that stays visible.")
    decoder_width: int = Field(64, ge=8, le=4096, multiple_of=8)
    decoder_layers: Layers = 1
    normalise: bool = Field(True, description="Draw pixels with each patch's own mean and deviation taken out.")


class CaptionSettings(PretrainSettings):
    """Images and their captions, with the places of regions said in words, find each other."""

    use: Literal["caption"] = "caption"
    steps: int = Field(1000, ge=1, le=10_000_000)
    learning_rate: float = Field(2e-3, gt=0, le=1)
    position_weight: Weight = Field(1.0, description="Of the loss that tells the places apart.")
    word_weight: Weight = Field(1.0, description="Of the loss by which each patch chooses the word of what it shows.")
    text_width: int = Field(64, ge=8, le=4096, description="Features of a word.")
    text_layers: Layers = 2
    text_heads: Layers = 2
    projection: Size = Field(64, description="Dimensions in which images and texts are compared.")
    vocabulary: int = Field(1000, ge=520, le=60_000, description="Tokens at most, the 512 single bytes included.")

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
