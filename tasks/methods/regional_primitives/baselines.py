"""What tracing is compared with: a gradient map of the region, and parts from factorising the feature.

Both are cheap. The map needs one backward pass; the parts none. Neither adds up to the feature region by region, which
is what components are for.
"""

import torch
from torch import Tensor

from tailforge.tasks.methods.regional_primitives.demands import Subject

TINY = 1e-12


def map_gradient(subject: Subject, region: Tensor) -> Tensor:
    """Gradient x activation of a region [H, W]: how much each cell [h, w] holds of what is drawn there.

    |sum over channels of (f - f0) dE / df|, where E is the squared change of the region from the baseline's image.
    """
    point = subject.feature.detach().requires_grad_()
    with torch.no_grad():
        origin = subject.tail(subject.baseline)
    with torch.enable_grad():
        drawn = (subject.tail(point) - origin)[..., region.to(point.device)].square().sum()
        (gradient,) = torch.autograd.grad(drawn, point)
    return ((subject.feature - subject.baseline) * gradient).sum(1)[0].abs()


def factorise_feature(subject: Subject, parts: int, iterations: int = 200, seed: int = 0) -> Tensor:
    """f - f0 as a sum of `parts` changes [parts, C, h, w], each an appearance on a non-negative map, and a remainder.

    Semi-nonnegative factorisation X = A P, P >= 0, by the updates of Ding, Li and Jordan 2010;
    PandA (arXiv 2206.00048) factorises the features of many samples this way, here it is those of one.
    """
    change = (subject.feature - subject.baseline)[0]
    values = change.flatten(1)
    generator = torch.Generator("cpu").manual_seed(seed)
    maps = torch.rand(parts, values.shape[1], generator=generator, dtype=torch.float64).to(values) + 0.2
    looks = fit_looks(values, maps)
    for _ in range(iterations):
        crossed, inner = looks.T @ values, looks.T @ looks
        up = crossed.clamp_min(0) + (-inner).clamp_min(0) @ maps
        down = (-crossed).clamp_min(0) + inner.clamp_min(0) @ maps
        maps = maps * (up / down.clamp_min(TINY)).sqrt()
        looks = fit_looks(values, maps)
    return torch.einsum("ck,kp->kcp", looks, maps).reshape(parts, *change.shape)


def fit_looks(values: Tensor, maps: Tensor) -> Tensor:
    """The appearances [C, parts] that fit the maps best."""
    looks: Tensor = values @ torch.linalg.pinv(maps)
    return looks
