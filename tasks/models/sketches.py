"""Sketch a generator: its real classes with all shapes and types, but fake tensors and no weights read.

Counting its memory needs a second or two, whatever its size. See tasks/methods/sampling/footprint.py.
"""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedControl, ResolvedModel
from tailforge.tasks.models.clip import ClipScorer, read_preparation
from tailforge.tasks.models.controlled_generator import ControlledGenerator, attach_control, control_folder
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator
from tailforge.tasks.models.generator_files import (
    INDEX,
    WEIGHTS,
    absent_parts,
    check_class,
    check_generator,
    generator_folder,
    read_json,
)
from tailforge.tasks.models.kinds import check_clip
from tailforge.tasks.models.text_to_image import FAMILIES, hide_progress

PROCESSOR = torch.device("cpu")
UNKNOWN = "the memory of hub model {path} is not known before its download; name a local directory"


def fake_mode() -> FakeTensorMode:
    """Return the mode in which sketches run. Token numbers may be real tensors."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def sketch_generator(model: ResolvedModel, half: bool, mode: FakeTensorMode) -> DiffusersGenerator:
    """Return a generator of fake tensors, in float32, or with `half` in its family's half precision.

    The tensors belong to the processor: a machine without an accelerator counts for one, too. Errors: ModelError for
    missing or damaged files, and for a hub model, whose files are not there yet.
    """
    check_generator(model)
    hide_progress()
    folder = generator_folder(model)
    if folder is None:
        raise ModelError(UNKNOWN.format(path=model.path))
    index = read_json(folder / INDEX)
    kind = check_class(index.get("_class_name"), folder / INDEX)
    family, absent = FAMILIES[kind], absent_parts(index)
    dtype = family.half if half else torch.float32

    # Networks on the meta device; tokenizers and the scheduler as they are.
    parts = {name: build_part(folder / name, index[name], dtype) for name in WEIGHTS[kind] if name not in absent}
    pipeline = family.pipeline.from_pretrained(
        folder, local_files_only=True, **parts, **family.left_out, **dict.fromkeys(absent)
    )
    generator = family.adapt(pipeline) if model.control is None else sketch_control(pipeline, model.control)

    # The adapter has chosen all types, so the tensors may become fake.
    for network in generator.networks:
        make_fake(network, mode)
    generator.device = PROCESSOR
    return generator


def sketch_control(pipeline: Any, control: ResolvedControl) -> ControlledGenerator:
    """Return the adapter of a pipeline on the meta device with its ControlNet. Errors: ModelError, RecipeError."""
    folder = control_folder(control)
    if folder is None:
        raise ModelError(UNKNOWN.format(path=control.path))
    return attach_control(pipeline, build_part(folder, ("diffusers", "ControlNetModel"), pipeline.unet.dtype), control)


def sketch_clip(model: ResolvedModel, mode: FakeTensorMode) -> ClipScorer:
    """Return a CLIP model of fake tensors in float32, without its tokenizer. Errors: ModelError as above."""
    folder = Path(model.path) / (model.subfolder or "")
    if not folder.is_dir():
        raise ModelError(UNKNOWN.format(path=model.path))
    check_clip(folder)
    network = build_part(folder, ("transformers", "CLIPModel"), torch.float32)
    make_fake(network, mode)
    return ClipScorer(network.eval(), None, read_preparation(folder))


def build_part(folder: Path, entry: Any, dtype: torch.dtype) -> nn.Module:
    """Return a part of a pipeline on the meta device. `entry`: its library and class in the pipeline's index.

    Errors: ModelError for a configuration that its class refuses.
    """
    library, name = entry
    kind = getattr(diffusers if library == "diffusers" else transformers, name, None)
    if kind is None:
        raise ModelError(f"{folder}: {library} has no class {name!r:.80}; install the release that saved the model")
    try:
        with torch.device("meta"):
            if library == "diffusers":
                network = kind.from_config(read_json(folder / "config.json"))
            else:
                network = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    except ModelError:
        raise
    except Exception as error:  # both libraries raise classes of their own for a damaged configuration
        raise ModelError(f"{folder} cannot be read as {name}: {type(error).__name__}: {error}") from error

    # Not diffusers' own `to`, which warns of types. Generators load with channels last, so decoders copy as little.
    layout: dict[str, Any] = {"memory_format": torch.channels_last} if library == "diffusers" else {}
    nn.Module.to(network, dtype=dtype, **layout)
    found: nn.Module = network
    return found


def make_fake(network: nn.Module, mode: FakeTensorMode) -> None:
    """Replace the weights and buffers of a network on the meta device by fake tensors of the processor, in place."""
    # A weight that two modules share stays one.
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                if weight not in made:
                    made[weight] = nn.Parameter(FakeTensor(mode, weight.detach(), PROCESSOR), requires_grad=False)
                module._parameters[name] = made[weight]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = FakeTensor(mode, buffer, PROCESSOR)
