"""Load models of transformers that an evaluation trains, from their weights or from scratch.

Weights are safetensors, and no code from a hub runs. Dropout and stochastic depth are off, since every random draw of a
training comes from its seed and step.

Letters of shapes: N images, C channels, H and W rows and columns, K classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, PreTrainedConfig

from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.settings.inversion import TeacherSource
from tailforge.tasks.methods.evaluation.models import seeded_weights
from tailforge.tasks.methods.evaluation.task import Task
from tailforge.tasks.models.generator_files import read_json
from tailforge.tasks.models.preparation import Preparation, read_preparation
from tailforge.tasks.models.pretrained import model_folder, quiet_loading, read_weights, refuse_lacking

OPTION = "--model"


class LogitsOnly(nn.Module):
    """A model of transformers that returns its logits; those of masks at the images' size."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, K], or [N, K, H, W] for masks, of normalised images [N, C, H, W]."""
        logits: Tensor = self.network(pixel_values=images).logits
        if logits.ndim == 2 or logits.shape[2:] == images.shape[2:]:
            return logits
        return F.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class LibraryModel:
    """A model of transformers in a folder, for a task, with the preparation of its image processor."""

    resolved: ResolvedModel
    task: Task
    from_scratch: bool
    folder: Path
    preparation: Preparation

    @classmethod
    def open(cls, resolved: ResolvedModel, task: Task, from_scratch: bool) -> "LibraryModel":
        """Return a model without its weights; a hub model is downloaded. Errors: ModelError."""
        folder = model_folder(resolved, OPTION)
        config = read_json(folder / "config.json")
        preparation = read_preparation(folder, config, TeacherSource(model=resolved.path), OPTION)
        return cls(resolved, task, from_scratch, folder, preparation)

    def build(self, classes: int, seed: int) -> nn.Module:
        """Return the network for `classes` classes: its weights, or drawn by the seed, and a head drawn by the seed.

        Errors: ModelError for damaged files, another kind of model, and missing weights outside the head.
        """
        kind: Any = getattr(transformers, self.task.library_class)
        config = self._configure(classes)
        with seeded_weights(seed), quiet_loading():
            if self.from_scratch:
                network = self._draw(kind, config)
            else:
                network, lacking = read_weights(kind, self.folder, OPTION, config=config, ignore_mismatched_sizes=True)
                refuse_lacking(kind, self.folder, OPTION, _outside_head(network, lacking))
        return LogitsOnly(network.float().requires_grad_(True))

    def try_out(self, size: tuple[int, int]) -> None:
        """Pass one black image of `size` (height, width) through the network. Errors: ModelError if that fails."""
        network = self.build(2, 0).eval()
        image = torch.zeros(1, self.preparation.channels, *size)
        try:
            with torch.no_grad():
                shape = list(network(image).shape)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise ModelError(
                f"{OPTION}: {self.folder} fails on images of {size[0]} x {size[1]} pixels (height x width) and "
                f"{self.preparation.channels} channels: {error}; give another --size, or another model"
            ) from error
        wanted = [1, 2] if len(shape) == 2 else [1, 2, *size]
        if shape != wanted:
            raise ModelError(f"{OPTION}: {self.folder} returns logits {shape} for one image, not {wanted}")

    def _configure(self, classes: int) -> PreTrainedConfig:
        """Return the model's configuration without chance, for so many classes. Errors: ModelError."""
        try:
            config = AutoConfig.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
            _remove_chance(config)
            config.num_labels = classes
        except Exception as error:  # transformers raises many classes for configurations that it does not know
            raise ModelError(f"{OPTION}: {self.folder / 'config.json'} cannot be used: {error}") from error
        return config

    def _draw(self, kind: Any, config: PreTrainedConfig) -> nn.Module:
        """Return an untrained network. Errors: ModelError for a model of another kind."""
        try:
            network: nn.Module = kind.from_config(config, trust_remote_code=False)
        except Exception as error:  # as above
            raise ModelError(f"{OPTION}: {self.folder} cannot be built as {kind.__name__}: {error}") from error
        return network


def _remove_chance(config: PreTrainedConfig) -> None:
    """Set every rate of dropout and of stochastic depth to 0, also of inner configurations."""
    for key, value in list(vars(config).items()):
        if isinstance(value, PreTrainedConfig):
            _remove_chance(value)
        elif "drop" in key and isinstance(value, float):
            setattr(config, key, 0.0)


def _outside_head(network: nn.Module, lacking: list[str]) -> list[str]:
    """Return the missing weights that belong to no head.

    A head is everything beside the model that transformers calls the base. Without such a base nothing may lack.
    """
    base = getattr(network, "base_model_prefix", "")
    return [key for key in lacking if not (base and hasattr(network, base)) or key.startswith(f"{base}.")]
