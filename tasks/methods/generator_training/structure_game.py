"""Play the structure game beside the denoising loss.

The denoiser keeps the relations inside a group of images, and the encoder looks for relations that it breaks. After
SADM (arXiv 2402.17563): the encoder itself is the opponent, and no head says real or fake. Measure, gate, weight,
anchor, pauses and the single backward pass are Tailforge's own (docs/how-to/training.md).

Letters of shapes: B images, G groups, M images of a group, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tailforge.schemas.training.generator import StructureSettings
from tailforge.tasks.methods.generator_training.devices import Devices
from tailforge.tasks.methods.generator_training.structure import instance_distance, null_distance, structure_distance
from tailforge.tasks.methods.generator_training.structure_encoder import StructureEncoder
from tailforge.tasks.methods.training_loop import GRADIENT_NORM, State, moments_of, start_moments

MEASURED_EVERY = 16  # plays between measurements of the gradients' ratio
WEIGHT_DECAY = 0.9  # of the average over those measurements
BETAS = (0.5, 0.99)
TINY = 1e-12

See = Callable[[Tensor], Tensor]  # latents to what the encoder sees


@dataclass(frozen=True)
class Predicted:
    """Latents of a pass whose relations are compared: `reference` and the prediction `found`, both [B, C, H, W].

    `weights` [B]: how much each image counts. It is alphas_cumprod of the image's noise level, since a prediction from
    more noise is a mean of many images. It is 0 for an image that learns the empty prompt, whose prediction means
    something else.
    """

    reference: Tensor
    found: Tensor
    weights: Tensor


class StructureGame:
    """State of the game: the encoder, its optimiser, the weight, and whether it is still played.

    `see` turns latents into what the encoder sees.
    """

    def __init__(self, encoder: StructureEncoder, settings: StructureSettings, see: See, devices: Devices) -> None:
        self.encoder, self.settings, self.see, self.devices = encoder, settings, see, devices

        # The trunk stays fixed; the last stage plays in the arms with an opponent.
        self.adversarial = settings.arm in ("sadm", "random_encoder")
        encoder.requires_grad_(False)
        if self.adversarial:
            encoder.last.requires_grad_(True)
        self.parameters = {name: value for name, value in encoder.named_parameters() if value.requires_grad}

        # The opponent is pulled to its first weights, and its moments are saved from step 0 on.
        self._first = {name: value.detach().clone() for name, value in self.parameters.items()}
        self._optimizer: torch.optim.Optimizer | None = None
        if self.parameters:
            self._optimizer = torch.optim.Adam(self.parameters.values(), lr=settings.rate, betas=BETAS)
            start_moments(self._optimizer, self.parameters.values())

        self.weight = torch.zeros((), device=devices.device)  # gamma; 0: not measured yet
        self.plays = torch.zeros((), dtype=torch.int64)  # steps that it was played in
        self.playing = torch.ones((), dtype=torch.bool)
        self.figures: dict[str, float] = {}

    def distance(self, pair: Predicted) -> Tensor:
        """Return the weighted mean distance of the groups, a scalar; parameters that play get a gradient from it."""
        # Compare the features of each group.
        first, second = (self._features(each) for each in (pair.reference, pair.found))
        weights = pair.weights.view(-1, self.settings.group)
        measure = instance_distance if self.settings.arm == "instance" else structure_distance
        found = measure(first, second, weights).mean()

        # Also log what two groups of unrelated images differ by. All processes see the same figures, else they might
        # disagree on a pause.
        with torch.no_grad():
            seen = torch.stack([found, null_distance(first, weights).mean()])
        self.devices.average([seen])
        self.figures |= dict(zip(("structure/distance", "structure/null"), seen.tolist(), strict=True))
        return found

    def weigh(self, denoising: Tensor, distance: Tensor, last: nn.Parameter) -> Tensor:
        """Return the weight gamma of the distance, a scalar, from both losses, scalars, and the `last` weights.

        It is fixed by the settings, or such that the distance's gradient is `share` of the denoising loss's on `last`.
        """
        if self.settings.weight is not None:
            return torch.as_tensor(self.settings.weight, device=self.weight.device)

        # The gradients are measured in the first play and then from time to time.
        first = not float(self.weight)
        if first or int(self.plays) % MEASURED_EVERY == 0:
            losses = (denoising, distance)
            norms = torch.stack([torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in losses])
            self.devices.average([norms])

            # A model that still equals its source has no gradient of the distance, so no weight would be right.
            if float(norms[1]) < TINY:
                return torch.zeros_like(self.weight)

            # Later measurements move the weight slowly.
            wanted = (self.settings.share * norms[0] / (norms[1] + TINY)).clamp(max=self.settings.largest_weight)
            self.weight = wanted.detach() if first else torch.lerp(wanted.detach(), self.weight, WEIGHT_DECAY)
            self.figures["structure/gradient_ratio"] = float(self.weight * norms[1] / (norms[0] + TINY))
        self.figures["structure/weight"] = float(self.weight)
        return self.weight

    def finish_play(self, weight: Tensor, pair: Predicted) -> None:
        """Move the encoder, after the denoiser's backward pass left it the gradients of weight (scalar) x distance.

        Mode single: it takes these gradients with their sign turned. Mode alternate: it takes those of a pass of its
        own over `pair`, the step's last.
        """
        if self._may_move():
            if self.settings.mode == "alternate":
                # Climb the distance, the prediction fixed.
                self._forget()
                fixed = Predicted(pair.reference, pair.found.detach(), pair.weights)
                (-self.distance(fixed)).backward()  # type: ignore[no-untyped-call]
            else:
                # Take the weight out again and turn the sign.
                for value in self.parameters.values():
                    if value.grad is not None:
                        value.grad.div_(-weight.clamp(min=TINY))
            self._move()
        self._forget()
        self.plays = self.plays + 1

    def stop(self) -> None:
        """End the game; training goes on without it."""
        self.playing = torch.zeros((), dtype=torch.bool)

    def state(self) -> State:
        """Return everything that `restore` needs, as flat tensors."""
        # The weight and the counters, the encoder and its first weights, the opponent's moments.
        saved = {"weight": self.weight, "plays": self.plays, "playing": self.playing}
        saved |= {f"encoder/{name}": value for name, value in self.encoder.state_dict().items()}
        saved |= {f"first/{name}": value for name, value in self._first.items()}
        if self._optimizer is not None:
            saved |= moments_of(self._optimizer, self.parameters)
        return saved

    def _features(self, latents: Tensor) -> Tensor:
        """Return the features [G, M, D] of latents [B, C, H, W]."""
        found: Tensor = self.encoder(self.see(latents))
        return found.float().view(-1, self.settings.group, found.shape[-1])

    def _may_move(self) -> bool:
        """Return whether the encoder moves now: not between its turns, and not while it is winning (`pause_ratio`)."""
        if self._optimizer is None or int(self.plays) % self.settings.opponent_every:
            return False

        # It is winning while the distance is many times that of unrelated images.
        ratio = self.figures["structure/distance"] / max(self.figures["structure/null"], TINY)
        self.figures["structure/paused"] = float(ratio > self.settings.pause_ratio)
        return ratio <= self.settings.pause_ratio

    def _move(self) -> None:
        """Take one optimiser step on the gradients that the encoder's parameters hold."""
        assert self._optimizer is not None
        self.devices.average([value.grad for value in self.parameters.values() if value.grad is not None])

        # Add the gradient of anchor x the squared distance from the first weights.
        drift = 0.0
        for name, value in self.parameters.items():
            away = value.detach() - self._first[name]
            drift += float(away.square().sum())
            if value.grad is not None:
                value.grad.add_(away, alpha=2 * self.settings.anchor)

        nn.utils.clip_grad_norm_(self.parameters.values(), GRADIENT_NORM)
        self._optimizer.step()
        self.figures["structure/drift"] = drift**0.5

    def _forget(self) -> None:
        """Drop the gradients of the encoder's parameters."""
        for value in self.parameters.values():
            value.grad = None
