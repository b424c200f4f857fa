"""Pre-train by masking: predict hidden patches from visible ones (MAE, arXiv 2111.06377), regions first.

The decoder predicts regions beside the pixels, from the same visible patches. This follows MultiMAE (arXiv 2204.01678),
which predicts pseudo-labels of segmentation by a separate decoder; here one decoder predicts both. Our choices: patches
of regions are hidden first, a share of each region stays visible so that the rest can be inferred, and regions weigh
more in the loss.
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
LEAST_SHARE = 0.5  # a patch belongs to a region from this share of its pixels
SMALL = 1e-6  # keeps a patch of one colour finite when it is normalised


def train_masked(
    images: Pixels, regions: Regions | None, settings: MaskedSettings, saved: Saved, observe: Observe
) -> tuple[ViTMAEForPreTraining, Tensor]:
    """Return encoder and decoder with averaged weights, frozen, and losses [steps]; plain MAE without regions."""
    torch.manual_seed(settings.seed)
    # The decoder's head gives a patch's colours and, with regions, one number per pixel.
    model = build_masked(settings, images.shape[1])
    colours = model.decoder.decoder_pred.out_features
    drawn = colours if regions is None else colours + settings.patch_px**2  # of regions a number a pixel
    model.decoder.decoder_pred = _resize(model.decoder.decoder_pred, drawn)
    learner = PretrainLearner({"model": model}, settings)
    views = RegionViews(images.shape[1], settings)

    def loss_at(step: int) -> Tensor:
        # Views of this step's images; seed and step alone decide them.
        rows = draw_rows(len(images), settings.batch, settings.seed, step)
        view = views.draw(images[rows], None if regions is None else regions.areas[rows], step)
        pixels, patches = to_tensor(view.pixels), (images.shape[1] // settings.patch_px) ** 2
        shares = torch.zeros(len(rows), 1, patches)
        if view.areas is not None:
            shares = share_patches(view.areas[:, 1:], settings.patch_px)

        # Hide patches; regions are preferred more and more as beta grows.
        beta = settings.beta * step / max(1, settings.steps - 1)
        noise = draw_noise(shares, beta, settings.visible_floor, torch_draws(settings.seed, step))
        seen = model.vit(pixels, noise=noise)
        drawn: Tensor = model.decoder(seen.last_hidden_state, seen.ids_restore).logits

        # MAE's loss on the hidden patches, then the outlines of the regions.
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
    """Return an untrained encoder and decoder."""
    # The configuration hides an exact number of patches, not about a share of them.
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
    """Return how many of `patches` are hidden: at least one is, and at least one stays visible."""
    return min(max(round(mask_ratio * patches), 1), patches - 1)


def exact_ratio(patches: int, hidden: int) -> float:
    """Return the ratio for which transformers hides `hidden` patches: it cuts patches x (1 - ratio) to an integer."""
    ratio = hidden / patches
    return ratio if int(patches * (1 - ratio)) == patches - hidden else (hidden - 0.5) / patches


def draw_noise(shares: Tensor, beta: float, visible_floor: float, draws: torch.Generator) -> Tensor:
    """Return the noise [B, P] that orders the patches: beta x saliency + Gumbel noise. The highest are hidden.

    Saliency is a patch's largest share in one of the regions, from `shares` [B, R, P]. At random, a share
    `visible_floor` of each region's patches, rounded up, gets noise -inf and so stays visible. beta 0 and no regions: a
    uniform draw, as in MAE.
    """
    # Gumbel noise makes the highest patches a sample without replacement, weighted by saliency.
    uniform = torch.rand((2, *shares.shape), generator=draws)
    gumbel = -torch.log(-torch.log(uniform[0, :, 0].clamp(min=SMALL, max=1 - SMALL)))
    noise = beta * shares.amax(1) + gumbel

    # Keep a random part of each region's patches visible.
    owned = _owned_patches(shares)
    place = uniform[1].masked_fill(~owned, 2.0).argsort(2).argsort(2)  # of each patch in its region's lot
    shown = owned & (place < torch.ceil(visible_floor * owned.sum(2, keepdim=True)))
    return noise.masked_fill(shown.any(1), -torch.inf)


def _owned_patches(shares: Tensor) -> Tensor:
    """Return the patches mostly in a region, bool [B, R, P]; a tiny region gets the patch that it fills most."""
    most = (shares == shares.amax(2, keepdim=True)) & (shares > 0)
    owned = shares >= LEAST_SHARE
    return torch.where(owned.any(2, keepdim=True), owned, most)


def weighted_error(drawn: Tensor, targets: Tensor, hidden: Tensor, shares: Tensor, gamma: float) -> Tensor:
    """Return the mean squared error of hidden patches, weighted by 1 + gamma x saliency; an image's weights average 1.

    Shapes: drawn, targets [B, P, pixels]; hidden [B, P], 1 for a hidden patch; shares [B, R, P].
    """
    # Visible patches weigh nothing; the hidden ones of an image sum to 1.
    weights = (1 + gamma * shares.amax(1)) * hidden
    weights = weights / weights.sum(1, keepdim=True)
    errors = (drawn - targets).square().mean(2)
    return (weights * errors).sum(1).mean()


def outline_loss(drawn: Tensor, areas: Areas, sure: Tensor) -> Tensor:
    """Return the mean cross entropy of each pixel, in a thing or not, weighted by its image's confidence `sure` [B].

    Shapes: drawn [B, P, patch x patch], logits, pixels of a patch row by row; areas [B, R, H, W], background first.
    Ignored pixels, those in no region, count nothing. Visible patches count as well, as the input holds only pixels.
    """
    # Cut the areas into patches: the pixels known at all, and the pixels of a thing.
    side = areas.shape[-1] // round(drawn.shape[1] ** 0.5)
    known, thing = (
        F.unfold(torch.from_numpy(some.any(1, keepdims=True)).float(), side, stride=side).transpose(1, 2)
        for some in (areas, areas[:, 1:])
    )
    errors = F.binary_cross_entropy_with_logits(drawn, thing, reduction="none")
    return (sure[:, None, None] * known * errors).mean()


@torch.no_grad()
def _resize(layer: nn.Linear, outputs: int) -> nn.Linear:
    """Return the layer with `outputs` outputs, the first ones unchanged; further ones start by Glorot's rule."""
    # Keep the first outputs, so that the pixels' part is untouched.
    resized = nn.Linear(layer.in_features, outputs)
    nn.init.xavier_uniform_(resized.weight)
    nn.init.zeros_(resized.bias)
    shared = min(outputs, layer.out_features)
    resized.weight[:shared], resized.bias[:shared] = layer.weight[:shared], layer.bias[:shared]
    return resized


def _targets(patches: Tensor, normalise: bool) -> Tensor:
    if not normalise:  # MAE's option: each patch by its own mean and variance
        return patches
    return (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + SMALL).sqrt()
