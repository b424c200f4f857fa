"""Rivals of tracing: a gradient map of the region, and parts from a factorised feature.

Both are cheap: the map needs one backward pass, the parts none. Unlike components, neither adds up to the feature
region by region.
"""

import torch
from torch import Tensor

from tailforge.tasks.methods.regional_primitives.demands import Subject

TINY = 1e-12


def map_gradient(subject: Subject, region: Tensor) -> Tensor:
    """Return gradient x activation of a region [H, W]: how much each cell [h, w] contributes to the region.

    |sum over channels of (f - f0) dE / df|, where E is the squared change of the region from the baseline's image.
    """
    # E: how much the region changes from the baseline's image.
    point = subject.feature.detach().requires_grad_()
    with torch.no_grad():
        origin = subject.tail(subject.baseline)
    with torch.enable_grad():
        drawn = (subject.tail(point) - origin)[..., region.to(point.device)].square().sum()
        (gradient,) = torch.autograd.grad(drawn, point)
    return ((subject.feature - subject.baseline) * gradient).sum(1)[0].abs()


def factorise_feature(subject: Subject, parts: int, iterations: int = 200, seed: int = 0) -> Tensor:
    """Factorise f - f0 into `parts` changes [parts, C, h, w], each an appearance on a non-negative map, plus a rest.

    Semi-nonnegative factorisation X = A P, P >= 0, by the updates of Ding, Li and Jordan 2010. PandA (arXiv 2206.00048)
    factorises the features of many samples this way; here the features are those of one sample.
    """
    # X: one column per cell of the feature.
    change = (subject.feature - subject.baseline)[0]
    values = change.flatten(1)

    # Start from random maps above 0; the CPU generator gives the same start on every device.
    generator = torch.Generator("cpu").manual_seed(seed)
    maps = torch.rand(parts, values.shape[1], generator=generator, dtype=torch.float64).to(values) + 0.2
    looks = fit_looks(values, maps)
    # Multiplicative update of the maps, with positive and negative parts apart, then a new fit.
    for _ in range(iterations):
        crossed, inner = looks.T @ values, looks.T @ looks
        up = crossed.clamp_min(0) + (-inner).clamp_min(0) @ maps
        down = (-crossed).clamp_min(0) + inner.clamp_min(0) @ maps
        maps = maps * (up / down.clamp_min(TINY)).sqrt()
        looks = fit_looks(values, maps)
    return torch.einsum("ck,kp->kcp", looks, maps).reshape(parts, *change.shape)


def fit_looks(values: Tensor, maps: Tensor) -> Tensor:
    """Return the appearances [C, parts] that fit the maps [parts, h * w] best, by least squares."""
    looks: Tensor = values @ torch.linalg.pinv(maps)
    return looks
