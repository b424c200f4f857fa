"""Read LoRA files, check that they fit a pipeline, and add them to its weights.

A LoRA (Hu et al. 2021, arXiv 2106.09685, section 4.1) changes a layer's weight W by a product of two small matrices:

    W' = W + w (alpha / r) B A

with the recipe's weight w, the rank r, and the file's alpha. Files of diffusers without alpha mean alpha = r. diffusers
converts the names of layers. The sum is computed in float32 on the CPU and stored in the weights, so attention,
gradients and time per step are those of a pipeline without LoRA. Of peft's configuration in a file only alpha is read.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from huggingface_hub import hf_hub_download
from safetensors import safe_open
from torch import Tensor, nn

from tailforge.catalog.sources.loras import digest_file
from tailforge.schemas.documents.foreign_json import parse_object
from tailforge.schemas.documents.shown import count_of, shorten
from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.jobs import ResolvedLora, ResolvedModel
from tailforge.tasks.models.generator_files import (
    INDEX,
    WEIGHTS,
    check_safetensors,
    generator_folder,
    read_json,
    weight_files,
)

KINDS: Mapping[str, Any] = {
    "StableDiffusionPipeline": StableDiffusionPipeline,
    "StableDiffusionXLPipeline": StableDiffusionXLPipeline,
}
DOWN, UP = ".lora_A.weight", ".lora_B.weight"  # ends of names in peft's form, to which all forms are converted
KOHYA_DOWN, KOHYA_UP, KOHYA_ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"
FLAT = "text_model."  # prefix of a text encoder's layers, which newer releases of transformers leave out
# Parts of names of other methods than LoRA. diffusers would skip some of them without an error.
OTHER_METHODS = {"dora_scale": "DoRA", "lora_magnitude": "DoRA", "hada_w": "LoHa", "lokr_w": "LoKr", "oft_": "OFT"}
LITERAL = re.compile(r"\^?([\w.]+)")
SHOWN = 4  # names in an error

Shape = tuple[int, ...]
Layer = tuple[str, str]  # part of the pipeline, and the layer's name in it


@dataclass(frozen=True)
class Factors:
    """The change of one layer: (alpha / r) `up` [out, r, 1...] times `down` [r, in, ...]."""

    down: Tensor
    up: Tensor

    @property
    def shape(self) -> Shape:
        """Return the shape of the change, which is that of the layer's weight."""
        return self.up.shape[0], *self.down.shape[1:]

    def multiply(self) -> Tensor:
        """Return (alpha / r) B A in float32: [out, in, ...]."""
        return (self.up.float().flatten(1) @ self.down.float().flatten(1)).reshape(self.shape)


def check_loras(generator: ResolvedModel) -> None:
    """Check that LoRA files fit a generator, by names and shapes. Files and generators of the hub are checked later.

    Errors: ModelError for a damaged or foreign file; RecipeError for a pipeline without a UNet.
    """
    folder = generator_folder(generator)
    if not generator.loras or folder is None:
        return
    kind = str(read_json(folder / INDEX).get("_class_name"))
    _require_unet(kind)
    shapes, config = _read_shapes(folder, kind), read_json(folder / "unet" / "config.json")
    for field, lora in _name_loras(generator.loras):
        if lora.revision is None:
            require_layers(read_lora(Path(lora.path) / lora.file, kind, config, field), shapes, field)


def merge_loras(pipeline: Any, loras: Sequence[ResolvedLora]) -> None:
    """Add LoRA files to the weights of a loaded pipeline on the CPU, in order. A weight of 0 changes nothing.

    Errors: ModelError for a file that is damaged or does not fit; RecipeError for a pipeline without a UNet.
    """
    if not loras:
        return
    kind = type(pipeline).__name__
    _require_unet(kind)
    modules = {
        (part, name.removeprefix(FLAT)): module
        for part in WEIGHTS[kind]
        for name, module in getattr(pipeline, part).named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    shapes = {layer: tuple(module.weight.shape) for layer, module in modules.items()}

    # Check a whole file before any of its layers is changed.
    for field, lora in _name_loras(loras):
        layers = read_lora(_fetch_file(lora, field), kind, pipeline.unet.config, field)
        require_layers(layers, shapes, field)
        for layer, factors in layers.items() if lora.weight else ():
            weight = modules[layer].weight
            with torch.no_grad():
                weight.copy_(weight.float() + lora.weight * factors.multiply())


def read_lora(file: Path, kind: str, config: Mapping[str, Any], field: str) -> dict[Layer, Factors]:
    """Return the changed layers of a LoRA file. `kind`: class of the pipeline; `config`: of its UNet.

    Errors: ModelError for a file that is damaged, has numbers that are not finite, or is of another method.
    """
    check_safetensors(file)
    with safe_open(file, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        noted = (opened.metadata() or {}).get(LORA_ADAPTER_METADATA_KEY)
    for sign, method in OTHER_METHODS.items():
        if found := next((name for name in tensors if sign in name), None):
            raise ModelError(f"{field}: {file} is of {method} ({shorten(found)}); only LoRA files are supported")

    # XL files of kohya count blocks as the original code does, and the UNet's configuration gives their new numbers.
    try:
        options = {"unet_config": SimpleNamespace(**{"layers_per_block": 2} | dict(config))} if "XL" in kind else {}
        converted, _ = KINDS[kind].lora_state_dict(_fold_alphas(tensors), **options)
        layers = {layer: factors for part in WEIGHTS[kind] for layer, factors in _pair(part, converted)}
        _require_all(converted, layers)
        layers = _scale_by_note(layers, noted)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(
            f"{field}: {file} cannot be read as a LoRA file of diffusers or kohya: {shorten(str(error))}; save it by "
            "diffusers' save_lora_weights"
        ) from error
    if wrong := [
        name for (_, name), each in layers.items() if not all(part.isfinite().all() for part in (each.down, each.up))
    ]:
        raise ModelError(f"{field}: {file} has numbers that are not finite in {wrong[0]}; copy the file again")
    return layers


def require_layers(layers: Mapping[Layer, Factors], shapes: Mapping[Layer, Shape], field: str) -> None:
    """Check that a generator has all layers that a file changes, in their shapes. Errors: ModelError."""
    lacking = [".".join(layer) for layer in layers if layer not in shapes]
    if len(lacking) == len(layers):
        raise ModelError(
            f"{field}: the file matches no layer of the generator; it looked for {_list(lacking) or 'none'}; name a "
            "LoRA of this kind of model"
        )
    if lacking:
        raise ModelError(
            f"{field}: the generator lacks {len(lacking)} of the file's {count_of(len(layers), 'layer')}: "
            f"{_list(lacking)}; name a LoRA of this kind of model"
        )
    for layer, factors in layers.items():
        if factors.shape != shapes[layer]:
            raise ModelError(
                f"{field}: the file changes {'.'.join(layer)} in the shape {factors.shape}, but the generator's is "
                f"{shapes[layer]}; name a LoRA that was trained for this kind of model"
            )


def _name_loras(loras: Sequence[ResolvedLora]) -> Iterator[tuple[str, ResolvedLora]]:
    """Yield each LoRA with its key in the recipe, for errors."""
    for at, lora in enumerate(loras):
        yield f"generator.loras[{at}]", lora


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if names[SHOWN:] else "")


def _require_unet(kind: str) -> None:
    """Refuse a pipeline whose LoRA files are not supported. Errors: RecipeError."""
    if kind not in KINDS:
        raise RecipeError(
            f"generator.loras: the generator is a {kind}, and LoRA files work with {', '.join(KINDS)}; leave them out"
        )


def _read_shapes(folder: Path, kind: str) -> dict[Layer, Shape]:
    """Return the shapes of a pipeline's weights, from the headers of its files. Errors: ModelError."""
    found: dict[Layer, Shape] = {}
    for part, stem in WEIGHTS[kind].items():
        for file in weight_files(folder / part, stem):
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118
                    layer = part, name.removesuffix(".weight").removeprefix(FLAT)
                    found[layer] = tuple(opened.get_slice(name).get_shape())
    return found


def _fetch_file(lora: ResolvedLora, field: str) -> Path:
    """Return the file of a LoRA; that of a hub model is downloaded first. Errors: ModelError."""
    if lora.revision is None:
        return Path(lora.path) / lora.file
    try:
        file = Path(hf_hub_download(lora.path, lora.file, subfolder=lora.subfolder, revision=lora.revision))
    except Exception as error:  # the hub's client raises classes of its own and of its transport
        raise ModelError(
            f"{field}: {lora.file} of hub model {lora.path}@{lora.revision} cannot be downloaded: {error}; check "
            "names, revision and connection, or name a local file"
        ) from error
    if lora.sha256 not in (None, found := digest_file(file)):
        raise ModelError(f"{field}.sha256 is {lora.sha256}, but the file of the hub has {found}; correct the key")
    return file


def _fold_alphas(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file with kohya's alpha / r multiplied into B. Errors: KeyError for an alpha alone."""
    folded = {name: tensor for name, tensor in tensors.items() if not name.endswith(KOHYA_ALPHA)}
    for name in tensors.keys() - folded.keys():
        base = name.removesuffix(KOHYA_ALPHA)
        scale = float(tensors[name].item()) / len(tensors[base + KOHYA_DOWN])
        folded[base + KOHYA_UP] = scale * tensors[base + KOHYA_UP].float()
    return folded


def _pair(part: str, tensors: Mapping[str, Tensor]) -> Iterator[tuple[Layer, Factors]]:
    """Yield the layers of one part of the pipeline, from tensors in a form of diffusers. Errors: ValueError."""
    own = {name.removeprefix(f"{part}."): each for name, each in tensors.items() if name.startswith(f"{part}.")}
    if own and not any(DOWN in name for name in own):
        own = (
            convert_unet_state_dict_to_peft(own)
            if part == "unet"
            else convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
        )
    for name in own:
        if name.endswith(DOWN):
            base = name.removesuffix(DOWN)
            down, up = own[name], own[base + UP]
            if down.ndim < 2 or up.flatten(1).shape[1] != len(down):
                raise ValueError(f"{base} has factors of the shapes {tuple(up.shape)} and {tuple(down.shape)}")
            yield (part, base.removeprefix(FLAT)), Factors(down, up)


def _require_all(tensors: Mapping[str, Tensor], layers: Mapping[Layer, Factors]) -> None:
    """Check that each tensor of a file became a factor. Errors: ValueError."""
    if len(tensors) != 2 * len(layers):
        known = tuple(f"{part}." for part in ("unet", "text_encoder", "text_encoder_2"))
        strange = [name for name in tensors if not name.startswith(known)] or list(tensors)
        raise ValueError(f"{len(tensors)} tensors give {count_of(len(layers), 'layer')}; names are {_list(strange)}")


def _scale_by_note(layers: Mapping[Layer, Factors], noted: str | None) -> dict[Layer, Factors]:
    """Return the layers multiplied by alpha / r of the configuration that diffusers notes. Errors: ValueError."""
    note = parse_object(noted) if noted else {}
    scaled = {}
    for (part, name), factors in layers.items():
        rank = len(factors.down)
        alpha = float(_find_pattern(note.get(f"{part}.alpha_pattern"), name, note.get(f"{part}.lora_alpha", rank)))
        scale = alpha / (math.sqrt(rank) if note.get(f"{part}.use_rslora") else rank)
        scaled[part, name] = factors if scale == 1 else Factors(factors.down, scale * factors.up.float())
    return scaled


def _find_pattern(patterns: Any, name: str, otherwise: Any) -> Any:
    """Return the value of the first pattern that ends a layer's name. Errors: ValueError for an expression."""
    for pattern, value in (patterns or {}).items():
        if not (found := LITERAL.fullmatch(pattern)):
            raise ValueError(f"alpha_pattern {pattern!r} is an expression; only names of layers are read")
        if name == found[1] or name.endswith(f".{found[1]}"):
            return value
    return otherwise
