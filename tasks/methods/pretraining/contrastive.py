"""Pre-train by contrast: two views of an image agree, as a whole and region by region.

The images' loss and the momentum branch are MoCo v3's (arXiv 2104.02057, section 3), without its batch normalisation: a
moving average would have to follow its statistics. The regions' loss pools features over regions as DetCon does (arXiv
2103.10957, section 3.1). Our choices: regions of the same noun in other images are no negatives, the background is a
region, and confidence weighs each term.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from transformers import ViTConfig, ViTModel

from tailforge.schemas.training.pretraining import ContrastiveSettings
from tailforge.tasks.methods.classifiers.train import draw_rows
from tailforge.tasks.methods.pretraining.encoders import describe_encoder, start_encoder
from tailforge.tasks.methods.pretraining.fitting import PretrainLearner, fit
from tailforge.tasks.methods.pretraining.regions import ABSENT, Regions, share_patches
from tailforge.tasks.methods.pretraining.views import Pixels, RegionViews, View
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.training_loop import Observe, Saved

VERSION = "contrastive.1"
NETWORK = "network"
LEAST_CELLS = 1.0  # a region with fewer patches in a view is dropped
REMOVED = -1e9  # a score without weight in a softmax


@dataclass(frozen=True)
class Embedded:
    """Unit vectors of one branch: of images [B, D] and, if there are regions, of regions [B, R, D]."""

    images: Tensor
    regions: Tensor | None


class TwoHeads(nn.Module):
    """Encoder, and projector and predictor for images and for regions."""

    def __init__(self, settings: ContrastiveSettings, size_px: int) -> None:
        super().__init__()
        width, hidden, out = settings.width, settings.hidden, settings.projection
        self.encoder = ViTModel(ViTConfig(**describe_encoder(settings, size_px)), add_pooling_layer=False)
        embeddings = self.encoder.embeddings
        start_encoder(self.encoder, embeddings.position_embeddings[0], embeddings.patch_embeddings.projection)
        # Images and regions have heads of their own.
        self.project_image, self.project_region = (_perceptron(width, hidden, out) for _ in range(2))
        self.predict_image, self.predict_region = (_perceptron(out, hidden, out) for _ in range(2))

    def forward(self, pixels: Tensor, shares: Tensor | None, predict: bool) -> Embedded:
        """Embed pixels [B, 3, H, W] with shares [B, R, P] of every patch; `predict` for the trained branch alone."""
        # Patch tokens without the class token: their mean is the image's feature.
        features = self.encoder(pixels).last_hidden_state[:, 1:]
        images = self.project_image(features.mean(1))
        regions = None if shares is None else self.project_region(pool_regions(features, shares))
        if predict:
            images = self.predict_image(images)
            regions = None if regions is None else self.predict_region(regions)
        return Embedded(F.normalize(images, dim=-1), None if regions is None else F.normalize(regions, dim=-1))


def train_contrastive(
    images: Pixels, regions: Regions | None, settings: ContrastiveSettings, saved: Saved, observe: Observe
) -> tuple[ViTModel, Tensor]:
    """Return the encoder with averaged weights, frozen, and losses [steps]; no regions: the images' loss alone."""
    torch.manual_seed(settings.seed)
    network = TwoHeads(settings, images.shape[1])
    learner = PretrainLearner({NETWORK: network}, settings)
    views = RegionViews(images.shape[1], settings, settings.grey)

    def loss_at(step: int) -> Tensor:
        # Two views of this step's images, and the regions that both show.
        rows = draw_rows(len(images), settings.batch, settings.seed, step)
        areas = None if regions is None else regions.areas[rows]
        pair = [_prepare(views.draw(images[rows], areas, step, number), settings.patch_px) for number in (0, 1)]
        kept = None if regions is None else keep_regions(regions, rows, pair)

        # Each view once as query, the other as key of the momentum branch.
        momentum = {key.removeprefix(f"{NETWORK}."): value for key, value in learner.average.items()}
        ways = ((pair[0], pair[1]), (pair[1], pair[0]))
        losses = [_one_way(network, momentum, here, there, kept, settings) for here, there in ways]
        return (losses[0] + losses[1]) / 2

    fit(learner, loss_at, settings, saved, observe)
    return network.encoder.eval().requires_grad_(False), learner.losses


def pool_regions(features: Tensor, shares: Tensor) -> Tensor:
    """Return the mean feature of each region [B, R, D], from patches [B, P, D] weighted by shares [B, R, P]."""
    # A small constant keeps an empty region finite.
    pooled: Tensor = shares @ features / (shares.sum(2, keepdim=True) + 1e-6)
    return pooled


def instance_loss(queries: Tensor, keys: Tensor, negatives: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Return the mean over M rows of -w log softmax of the own key among itself and the row's negatives; 0 for M = 0.

    Shapes: queries, keys [M, D], unit vectors; negatives, bool [M, M]; weights [M].
    Source: InfoNCE (arXiv 1807.03748, equation 4) with the negatives of each row chosen.
    """
    if not len(queries):
        return queries.sum()
    # Keys that are neither own nor negative get no weight in the softmax.
    own = torch.eye(len(queries), dtype=torch.bool)
    scores = (queries @ keys.T / temperature).masked_fill(~(negatives | own), REMOVED)
    return -(weights * F.log_softmax(scores, 1).diagonal()).mean()


def region_negatives(images: Tensor, nouns: Tensor) -> Tensor:
    """Return the negatives of regions, bool [M, M]: the others of an image, and other nouns of other images."""
    # A region of the same noun elsewhere may show the same thing: no negative (ours).
    same_image = images[:, None] == images[None]
    other = ~torch.eye(len(images), dtype=torch.bool)
    return (same_image | (nouns[:, None] != nouns[None])) & other


@dataclass(frozen=True)
class Prepared:
    """A view as the network reads it: pixels [B, 3, H, W], shares [B, R, P] of the patches in each region."""

    pixels: Tensor
    shares: Tensor | None


@dataclass(frozen=True)
class Kept:
    """Regions that fill a patch or more in both views: `chosen` bool [B, R], negatives [M, M], scores [M]."""

    chosen: Tensor
    negatives: Tensor
    scores: Tensor


def _prepare(view: View, patch_px: int) -> Prepared:
    return Prepared(to_tensor(view.pixels), None if view.areas is None else share_patches(view.areas, patch_px))


def keep_regions(regions: Regions, rows: NDArray[np.int64], pair: Sequence[Prepared]) -> Kept:
    """Return the regions in both views of the images `rows` [B], with the regions' negatives and confidences."""
    # A region must fill a patch in each view, or its pooled feature means nothing.
    nouns, scores = torch.from_numpy(regions.nouns[rows]), torch.from_numpy(regions.scores[rows])
    filled = [view.shares.sum(2) >= LEAST_CELLS for view in pair if view.shares is not None]
    chosen = filled[0] & filled[1] & (nouns != ABSENT)
    images = torch.arange(len(rows))[:, None].expand_as(nouns)
    return Kept(chosen, region_negatives(images[chosen], nouns[chosen]), scores[chosen])


def _one_way(
    network: TwoHeads,
    momentum: Mapping[str, Tensor],
    here: Prepared,
    there: Prepared,
    kept: Kept | None,
    settings: ContrastiveSettings,
) -> Tensor:
    """Return the loss of one view's queries against the other view's keys, made by the momentum branch."""
    # Keys carry no gradient: the momentum branch follows by averaging alone.
    queries: Embedded = network(here.pixels, here.shares, predict=True)
    with torch.no_grad():
        keys: Embedded = functional_call(network, dict(momentum), (there.pixels, there.shares, False))

    # Images: every other image of the batch is a negative.
    count = len(here.pixels)
    everything = torch.ones(count, count, dtype=torch.bool)
    loss = instance_loss(queries.images, keys.images, everything, torch.ones(count), settings.temperature)
    if kept is None or queries.regions is None or keys.regions is None:
        return loss

    # Regions: those kept, each weighted by its confidence.
    query, key = queries.regions[kept.chosen], keys.regions[kept.chosen]
    regions = instance_loss(query, key, kept.negatives, kept.scores, settings.temperature)
    return loss + settings.region_weight * regions


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, outputs))
