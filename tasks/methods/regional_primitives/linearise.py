"""Linearise a tail at a point, for many rows at once: products with its Jacobian J and with J^T, never J itself.

J v is the derivative of J^T c by c. This works for every network that can be differentiated twice.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tailforge.schemas.errors import ExplanationError

# Features [B, C, h, w] to images [B, 3, H, W]; differentiable, and no row reads another.
Tail = Callable[[Tensor], Tensor]


class Linearised:
    """g at `point` [B, C, h, w]: `image` = g(point), and the Jacobian of every row."""

    def __init__(self, tail: Tail, point: Tensor) -> None:
        # g(point), with a graph that can be differentiated twice.
        self.point = point.detach().requires_grad_()
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # fused attention is differentiable once only
            image = tail(self.point)
            if not image.requires_grad:
                raise ExplanationError("this tail passes no gradient to its feature; choose another layer")
            self._drawn = image

            # J^T c for a free cotangent c: linear in c, so its derivative by c gives J v later.
            self._cotangent = torch.zeros_like(image, requires_grad=True)
            (self._pulled,) = torch.autograd.grad(image, self.point, self._cotangent, create_graph=True)
        self.image = image.detach()

    def pull(self, cotangent: Tensor) -> Tensor:
        """Return J^T c, [B, C, h, w], for c [B, 3, H, W]."""
        (pulled,) = torch.autograd.grad(self._drawn, self.point, cotangent, retain_graph=True)
        return pulled

    def push(self, tangent: Tensor) -> Tensor:
        """Return J v, [B, 3, H, W], for v [B, C, h, w]."""
        (pushed,) = torch.autograd.grad(self._pulled, self._cotangent, tangent, retain_graph=True)
        return pushed
