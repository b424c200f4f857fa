"""Invert a classifier by NaturalInversion (arXiv 2306.16661): train generator, pyramid and channel scales per batch.

Our choices are: batches side by side, stale features, the zero start, scores without jitter, the 8-bit image inside
the loss, early stop and warm start. Of these, the presets cifar10 and cifar100 have only the scores without jitter.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.settings.inversion import Form, InversionSettings
from tailforge.schemas.under_way import tell
from tailforge.tasks.methods.natural_inversion import VERSION
from tailforge.tasks.methods.natural_inversion.baselines import (
    Canvas,
    Reader,
    draw_generator,
    draw_pixels,
    draw_unbounded,
    start_generator,
    start_pixels,
)
from tailforge.tasks.methods.natural_inversion.contract import Inverted, TeacherProtocol
from tailforge.tasks.methods.natural_inversion.finish import finish_slot
from tailforge.tasks.methods.natural_inversion.generator import Weights
from tailforge.tasks.methods.natural_inversion.jitter import Jitter, draw_jitter
from tailforge.tasks.methods.natural_inversion.losses import inversion_losses
from tailforge.tasks.methods.natural_inversion.pyramid import new_pyramid, refine
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.methods.natural_inversion.slots import Batch, Slot, Stack, stack_jitter, stack_slots, start_slot
from tailforge.tasks.methods.natural_inversion.taps import Probe, examine

LATE = 0.75  # candidates are scored after this share of the steps
REDRAWN = ("linear", "linear_bias", "alpha", "pixels")  # a warm start draws these anew


def invert(
    teacher: TeacherProtocol, labels: Sequence[int], seeds: Sequence[int], settings: InversionSettings
) -> Iterator[Inverted]:
    """Yield one image per label, in order, batch after batch. Freezes the teacher and leaves its buffers unchanged.

    `seeds`: one per sample, 0 to 2**63 - 1. A seed decides its sample's noise; the first seed of a batch also decides
    the batch's weights and jitter. Samples are split into batches of nearly equal size, at most `settings.batch_size`.
    A batch should hold all classes: it is matched as a whole to statistics of all of them.

    Errors: ModelError for a teacher that cannot be inverted, RecipeError for labels that it does not have. A batch
    whose loss is never a number gives images with `error`.
    """
    if len(labels) != len(seeds):
        raise ValueError(f"{count_of(len(labels), 'label')} and {count_of(len(seeds), 'seed')}; give one seed a label")
    anatomy = examine(teacher)
    if unknown := sorted({label for label in labels if not 0 <= label < anatomy.classes}):
        raise RecipeError(
            f"labels {unknown} are none of the teacher's; it has {count_of(anatomy.classes, 'class')}, 0 to "
            f"{anatomy.classes - 1}"
        )
    return _invert(teacher, Canvas(anatomy, teacher.size, settings), split_batches(labels, seeds, settings.batch_size))


def split_batches(labels: Sequence[int], seeds: Sequence[int], batch_size: int) -> list[Batch]:
    """Split samples into as few batches as possible; if they cannot be equal, the first ones are larger by one."""
    # Nearly equal sizes: batches of one size can train side by side.
    count = -(-len(labels) // batch_size)
    sizes = [len(labels) // count + (place < len(labels) % count) for place in range(count)]
    starts = [sum(sizes[:place]) for place in range(count)]
    return [
        Batch(place, tuple(labels[start : start + size]), tuple(seeds[start : start + size]))
        for place, (start, size) in enumerate(zip(starts, sizes, strict=True))
    ]


def _invert(teacher: TeacherProtocol, canvas: Canvas, batches: Sequence[Batch]) -> Iterator[Inverted]:
    with Probe(teacher, canvas.anatomy) as probe:
        # Batches of one size train side by side; images still leave in the order of the labels.
        inverter = Inverter(probe, canvas, PixelScale(teacher.mean, teacher.std, _device(teacher)))
        for size in sorted({len(batch.labels) for batch in batches}, reverse=True):
            early: dict[int, list[Inverted]] = {}
            equal = [batch for batch in batches if len(batch.labels) == size]
            due = deque(batch.place for batch in equal)
            for slot in inverter.run(equal):
                early[slot.batch.place] = finish_slot(slot, probe, inverter.scale, VERSION)
                while due and due[0] in early:
                    yield from early.pop(due.popleft())


def start_pyramid(canvas: Canvas, seeds: Sequence[int], random: Generator) -> Weights:
    """Return the starting weights of generator, channel scales and pyramid, on the CPU."""
    # The same generator as without the pyramid, then the pyramid's weights.
    weights = start_generator(canvas, seeds, random)
    anatomy = canvas.anatomy
    return weights | new_pyramid(anatomy.taps, anatomy.channels, canvas.settings.zero_start, random)


def draw_pyramid(canvas: Canvas, stack: Stack, first: Jitter | None, read: Reader) -> Tensor:
    """Draw images [B, K, C, H, W] as alpha * tanh(F(x0, features)), x0 the jittered G(z); the features are constants.

    With stale features x0 is not jittered: the features come from the last image, moved back by its jitter.
    """
    # x0: the generator's image, not yet bounded.
    unbounded = draw_unbounded(canvas, stack)
    if first is not None and not canvas.settings.stale_features:
        unbounded = first.apply(unbounded)

    # F: the pyramid adds the teacher's features; alpha scales the channels.
    features = stack.features or read(unbounded.detach())
    refined = refine(stack.weights, unbounded.flatten(1, 2), [feature.flatten(1, 2) for feature in features])
    return stack.alpha * refined.view(unbounded.shape)


FORMS: Mapping[Form, tuple[Callable[..., Weights], Callable[..., Tensor]]] = {
    "pyramid": (start_pyramid, draw_pyramid),
    "generator": (start_generator, draw_generator),
    "pixels": (start_pixels, draw_pixels),
}


@dataclass
class Inverter:
    """Trains batches in `settings.groups` slots; the next batch takes the place of a finished one."""

    probe: Probe
    canvas: Canvas
    scale: PixelScale

    def __post_init__(self) -> None:
        self.settings = self.canvas.settings
        self.start, self.draw = FORMS[self.settings.form]
        self.stale = self.settings.stale_features and self.settings.form == "pyramid"

    def run(self, batches: Sequence[Batch]) -> Iterator[Slot]:
        """Yield finished slots of batches of equal size, as they finish."""
        waiting = deque(batches)
        slots = [self._new_slot(waiting.popleft(), None) for _ in batches[: self.settings.groups]]
        while slots:
            tell("batch", len(batches) - len(waiting), len(batches))
            tell("step", min(slot.step for slot in slots), self.settings.steps)
            # Fixed algorithms, so that the same seeds give the same images.
            with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
                self._step(slots)
                if due := [slot for slot in slots if self._is_due(slot)]:
                    self._score(due)

            # Finished slots make room for the batches that wait.
            done = [slot for slot in slots if slot.done]
            slots = [slot for slot in slots if not slot.done]
            slots += [self._new_slot(waiting.popleft(), slot) for slot in done[: len(waiting)]]
            yield from done

    def _new_slot(self, batch: Batch, before: Slot | None) -> Slot:
        # The batch's own stream decides its weights and jitter.
        random = Generator().manual_seed(batch.seed)
        weights = self.start(self.canvas, batch.seeds, random)
        # A warm start keeps the pyramid and convolutions of the batch before, where they are finite.
        if before is not None and self.settings.warm_start:
            kept = {name: value.detach() for name, value in before.weights.items() if name not in REDRAWN}
            weights |= {name: value for name, value in kept.items() if bool(value.isfinite().all())}
        settings, classes = self.settings, self.canvas.anatomy.classes
        draws = draw_jitter(settings.steps, settings.reach(self.canvas.size), settings.flip, random)
        slot = start_slot(batch, weights, draws, classes, settings, self.scale.mean.device)
        if self.stale:  # there is no last step yet
            with torch.no_grad():
                features = self._read(draw_unbounded(self.canvas, stack_slots([slot])))
            slot.features = [feature[:, 0] for feature in features]
        return slot

    def _step(self, slots: Sequence[Slot]) -> None:
        # Draw, jitter, and read the teacher: the forward pass of all slots together.
        stack = stack_slots(slots)
        drawn = self.draw(self.canvas, stack, stack_jitter(slots, 0), self._read)
        second = stack_jitter(slots, 1)
        images = self._saved(second.apply(drawn))
        found = self.probe(images, statistics=True, features=self.stale)

        # The loss of each batch, from the teacher's logits and BatchNorm statistics.
        losses = inversion_losses(images, stack.labels, found, self.probe.running, self.settings)
        # The sum over slots: no weight is shared, so each gets the gradient of its own loss.
        losses["total"].sum().backward()  # type: ignore[no-untyped-call]

        # Each slot takes its own step and keeps its features for the next one.
        features = [second.undo(feature, self.canvas.size) for feature in found.features]
        for place, slot in enumerate(slots):
            slot.optimizer.step()
            slot.optimizer.zero_grad(set_to_none=True)
            slot.features = [feature[:, place] for feature in features] if self.stale else None
            slot.step += 1

    @torch.no_grad()
    def _score(self, slots: Sequence[Slot]) -> None:
        """Score the current images without jitter, and keep the better ones."""
        # Images without jitter, as they would be saved.
        stack = stack_slots(slots)
        images = self._saved(self.draw(self.canvas, stack, None, self._read))
        found = self.probe(images, statistics=True)
        losses = inversion_losses(images, stack.labels, found, self.probe.running, self.settings)

        # Keep a slot's images if their total loss is the lowest so far.
        for place, slot in enumerate(slots):
            alpha = slot.weights["alpha"].detach() if "alpha" in slot.weights else None
            terms = {name: value[place] for name, value in losses.items()}
            slot.best.keep_better(images[:, place], alpha, terms, slot.step)
            slot.done = slot.step >= self.settings.steps
        if self.settings.stop_improvement is not None:
            self._stop_flat(slots, losses["total"], (found.logits.argmax(2) == stack.labels).all(0))

    def _stop_flat(self, slots: Sequence[Slot], totals: Tensor, agreed: Tensor) -> None:
        """Mark the slots with a flat loss or a loss that is not a number; reads from the device once per scoring."""
        # Flat: the loss fell by less than the wanted share since the last scoring, and the teacher agrees.
        # Before the first scoring, the last total counts as infinite.
        infinite = torch.full_like(totals[0], float("inf"))
        before = torch.stack([infinite if slot.last_total is None else slot.last_total for slot in slots])
        flat = before - totals < (self.settings.stop_improvement or 0) * before
        for slot, stop, total in zip(slots, ((flat & agreed) | ~totals.isfinite()).tolist(), totals, strict=True):
            slot.done = slot.done or stop
            slot.last_total = total

    def _is_due(self, slot: Slot) -> bool:
        if slot.step >= self.settings.steps:
            return True
        # Score early as well if an early stop may end the training.
        late = slot.step >= LATE * self.settings.steps or self.settings.stop_improvement is not None
        return late and slot.step % self.settings.score_every == 0

    def _read(self, images: Tensor) -> Sequence[Tensor]:
        with torch.no_grad():
            return self.probe(images, features=True).features

    def _saved(self, images: Tensor) -> Tensor:
        return self.scale.save_through(images) if self.settings.saved_pixels else images


def _device(teacher: TeacherProtocol) -> torch.device:
    return next(teacher.module.parameters()).device
