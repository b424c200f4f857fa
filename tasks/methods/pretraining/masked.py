"""Masked pre-training: hidden patches are drawn from the visible ones (MAE, arXiv 2111.06377), regions first.

That regions are drawn beside the pixels, from the same visible patches, follows MultiMAE (arXiv 2204.01678), which
draws pseudo-labels of segmentation by a decoder of their own; here one decoder draws both. That patches of regions are
hidden rather than others, that a part of each region stays visible so that the rest can be inferred, and that regions
weigh more in the loss are choices of ours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from tailforge.schemas.training.pretraining import MaskedSettings
from tailforge.tasks.methods.classifiers.train import draw_rows
from tailforge.tasks.methods.pretraining.encoders import describe_encoder, start_encoder
from tailforge.tasks.methods.pretraining.fitting import PretrainLearner, fit
from tailforge.tasks.methods.pretraining.regions import Areas, Regions, share_patches, surest_things
from tailforge.tasks.methods.pretraining.views import Pixels, RegionViews
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.training_loop import Observe, Saved, torch_draws

VERSION = "masked.2"
DECODER_HEADS = 2
LEAST_SHARE = 0.5  # of its pixels in a region, for a patch to be one of the region's
SMALL = 1e-6  # keeps a patch of one colour finite when it is normalised


def train_masked(
    images: Pixels, regions: Regions | None, settings: MaskedSettings, saved: Saved, observe: Observe
) -> tuple[ViTMAEForPreTraining, Tensor]:
    """Encoder and decoder with averaged weights, frozen, and the loss of every step; without regions plain MAE."""
    torch.manual_seed(settings.seed)
    model = build_masked(settings, images.shape[1])
    colours = model.decoder.decoder_pred.out_features
    drawn = colours if regions is None else colours + settings.patch_px**2  # of regions a number a pixel
    model.decoder.decoder_pred = _resize(model.decoder.decoder_pred, drawn)
    learner = PretrainLearner({"model": model}, settings)
    views = RegionViews(images.shape[1], settings)

    def loss_at(step: int) -> Tensor:
        rows = draw_rows(len(images), settings.batch, settings.seed, step)
        view = views.draw(images[rows], None if regions is None else regions.areas[rows], step)
        pixels, patches = to_tensor(view.pixels), (images.shape[1] // settings.patch_px) ** 2
        shares = torch.zeros(len(rows), 1, patches)
        if view.areas is not None:
            shares = share_patches(view.areas[:, 1:], settings.patch_px)
        beta = settings.beta * step / max(1, settings.steps - 1)
        noise = draw_noise(shares, beta, settings.visible_floor, torch_draws(settings.seed, step))
        seen = model.vit(pixels, noise=noise)
        drawn: Tensor = model.decoder(seen.last_hidden_state, seen.ids_restore).logits
        targets = _targets(model.patchify(pixels), settings.normalise)
        loss = weighted_error(drawn[..., :colours], targets, seen.mask, shares, settings.gamma)
        if regions is None or view.areas is None:
            return loss
        sure = surest_things(regions.nouns[rows], regions.scores[rows])
        outlines = outline_loss(drawn[..., colours:], view.areas, sure)
        return loss + settings.outline_weight * outlines

    fit(learner, loss_at, settings, saved, observe)
    model.decoder.decoder_pred = _resize(model.decoder.decoder_pred, colours)  # as the class loads it
    return model.eval().requires_grad_(False), learner.losses


def build_masked(settings: MaskedSettings, size_px: int) -> ViTMAEForPreTraining:
    """An untrained encoder and decoder."""
    patches = (size_px // settings.patch_px) ** 2
    config = ViTMAEConfig(
        **describe_encoder(settings, size_px),
        decoder_hidden_size=settings.decoder_width,
        decoder_intermediate_size=4 * settings.decoder_width,
        decoder_num_hidden_layers=settings.decoder_layers,
        decoder_num_attention_heads=DECODER_HEADS,
        norm_pix_loss=settings.normalise,
        mask_ratio=exact_ratio(patches, count_hidden(patches, settings.mask_ratio)),
    )
    model = ViTMAEForPreTraining(config)
    embeddings = model.vit.embeddings
    start_encoder(model, embeddings.position_embeddings[0], embeddings.patch_embeddings.projection)
    return model


def count_hidden(patches: int, mask_ratio: float) -> int:
    """How many of `patches` are hidden: at least one, and one at least stays visible."""
    return min(max(round(mask_ratio * patches), 1), patches - 1)


def exact_ratio(patches: int, hidden: int) -> float:
    """The ratio at which transformers, which cuts patches x (1 - ratio) down to a whole number, hides so many."""
    ratio = hidden / patches
    return ratio if int(patches * (1 - ratio)) == patches - hidden else (hidden - 0.5) / patches


def draw_noise(shares: Tensor, beta: float, visible_floor: float, draws: torch.Generator) -> Tensor:
    """What orders the patches [B, P]; those of the highest noise are hidden: beta x saliency + Gumbel noise.

    Saliency is a patch's largest share in one of the regions, whose `shares` are [B, R, P]. At random a share
    `visible_floor` of each region's patches, rounded up, gets noise -inf and so stays visible. beta 0 and no regions:
    a uniform draw, as in MAE.
    """
    uniform = torch.rand((2, *shares.shape), generator=draws)
    gumbel = -torch.log(-torch.log(uniform[0, :, 0].clamp(min=SMALL, max=1 - SMALL)))
    noise = beta * shares.amax(1) + gumbel
    owned = _owned_patches(shares)
    place = uniform[1].masked_fill(~owned, 2.0).argsort(2).argsort(2)  # of each patch in its region's lot
    shown = owned & (place < torch.ceil(visible_floor * owned.sum(2, keepdim=True)))
    return noise.masked_fill(shown.any(1), -torch.inf)


def _owned_patches(shares: Tensor) -> Tensor:
    """bool [B, R, P]: patches that lie mostly in a region; of a region too small for any, the one it fills most."""
    most = (shares == shares.amax(2, keepdim=True)) & (shares > 0)
    owned = shares >= LEAST_SHARE
    return torch.where(owned.any(2, keepdim=True), owned, most)


def weighted_error(drawn: Tensor, targets: Tensor, hidden: Tensor, shares: Tensor, gamma: float) -> Tensor:
    """Mean squared error of the hidden patches, each weighted by 1 + gamma x saliency; an image's weights average 1.

    Shapes: drawn, targets [B, P, pixels]; hidden [B, P], 1 where a patch is hidden; shares [B, R, P].
    """
    weights = (1 + gamma * shares.amax(1)) * hidden
    weights = weights / weights.sum(1, keepdim=True)
    errors = (drawn - targets).square().mean(2)
    return (weights * errors).sum(1).mean()


def outline_loss(drawn: Tensor, areas: Areas, sure: Tensor) -> Tensor:
    """Mean cross entropy of each pixel, in a thing or not, weighted by its image's confidence `sure` [B].

    Shapes: drawn [B, P, patch x patch], logits, pixels of a patch row by row; areas [B, R, H, W], background first.
    Pixels in no region, the ignored ones, count nothing. Visible patches count as well: what is read are pixels alone.
    """
    side = areas.shape[-1] // round(drawn.shape[1] ** 0.5)
    known, thing = (
        F.unfold(torch.from_numpy(some.any(1, keepdims=True)).float(), side, stride=side).transpose(1, 2)
        for some in (areas, areas[:, 1:])
    )
    errors = F.binary_cross_entropy_with_logits(drawn, thing, reduction="none")
    return (sure[:, None, None] * known * errors).mean()


@torch.no_grad()
def _resize(layer: nn.Linear, outputs: int) -> nn.Linear:
    """The layer with so many outputs, the first as they were; further ones start by Glorot's rule."""
    resized = nn.Linear(layer.in_features, outputs)
    nn.init.xavier_uniform_(resized.weight)
    nn.init.zeros_(resized.bias)
    shared = min(outputs, layer.out_features)
    resized.weight[:shared], resized.bias[:shared] = layer.weight[:shared], layer.bias[:shared]
    return resized


def _targets(patches: Tensor, normalise: bool) -> Tensor:
    if not normalise:
        return patches
    return (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + SMALL).sqrt()
