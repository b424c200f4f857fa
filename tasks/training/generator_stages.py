"""Run the stages before a generator's training in its work folder, each once per key: latents, structure encoder."""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from tailforge.schemas.errors import ImagesError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.training.generator import GeneratorTraining, Mirror
from tailforge.schemas.under_way import tell
from tailforge.tasks.artifacts.contract import digest
from tailforge.tasks.images.captioned import CaptionedImages
from tailforge.tasks.methods.generator_training.batches import Examples
from tailforge.tasks.methods.generator_training.structure_encoder import VERSION as ENCODER_VERSION
from tailforge.tasks.methods.generator_training.structure_encoder import StructureEncoder, fit_encoder
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.models.checkpoints import write_whole
from tailforge.tasks.models.generator_files import saved_size
from tailforge.tasks.models.pretrained import pick_device
from tailforge.tasks.models.trainable_generator import TrainableGenerator
from tailforge.tasks.training.runs import finish_once

ENCODED_AT_ONCE = 32
LEAST_HELD_OUT = 50  # images; of fewer none is held out
ENCODER_IMAGES = 2048
BACKWARDS = slice(None, None, -1)
MIRRORED: dict[Mirror, tuple[slice, ...]] = {  # rows and columns of pictures [N, height, width, 3]
    "none": (),
    "columns": (slice(None), slice(None), BACKWARDS),
    "rows": (slice(None), BACKWARDS),
    "both": (slice(None), BACKWARDS, BACKWARDS),
}


@dataclass(frozen=True)
class Work:
    """A training's folder, recipe and base. `images_digest`: of the images' bytes, captions and classes.

    `logs`: whether curves are written for TensorBoard.
    """

    folder: Path
    recipe: GeneratorTraining
    base: ResolvedModel
    images_digest: str
    logs: bool = True

    @property
    def images_key(self) -> str:
        """Return the digest of everything that decides the latents."""
        return digest(
            {
                "version": "latents.2",
                "images": self.images_digest,
                "base": self.base.digest,
                "fit": self.recipe.images.fit,
                "mirrors": self.recipe.learning.mirrors,
            }
        )

    @property
    def encoder_key(self) -> str:
        """Return the digest of everything that decides the structure encoder."""
        structure = self.recipe.structure
        chosen = {name: getattr(structure, name) for name in ("encoder", "encoder_steps", "encoder_width")}
        learnt = structure.arm != "random_encoder"
        return digest(
            {"version": ENCODER_VERSION, "images": self.images_key, **chosen, "learnt": learnt}
            | {"seed": self.recipe.learning.seed}
        )


def encode_images(work: Work, images: CaptionedImages) -> dict[str, Any]:
    """Write latents, captions and classes of all images, and of their mirror images where the recipe wants these.

    Return the receipt. Errors: ImagesError for an image that cannot be used, before the training starts.
    """

    def produce(folder: Path) -> dict[str, Any]:
        images.require_readable(saved_size(work.base))  # before the minute that a large base takes to load

        # The latents of all images, then of all mirror images.
        generator = TrainableGenerator(work.base, pick_device())
        mirrors = work.recipe.learning.mirrors
        height, width = generator.generator.default_size
        shape = (len(mirrors) * len(images), *generator.generator.latent_shape(height, width))

        # The file is written, not mapped: a write to mapped memory on a full disk kills the process.
        with (folder / "latents.npy").open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for mirror in mirrors:
                pictures = images.read(height, width)
                done = 0
                while chunk := list(islice(pictures, ENCODED_AT_ONCE)):
                    tell("image", done, len(images))
                    done += len(chunk)
                    file.write(_encode(generator, np.stack(chunk)[MIRRORED[mirror]], images.origin).tobytes())
        write_whole(folder / "captions.json", json.dumps(list(images.captions) * len(mirrors)).encode())
        write_whole(folder / "classes.json", json.dumps(list(images.classes) * len(mirrors)).encode())
        return {"images": len(images)}

    return finish_once(work.folder / "images", work.images_key, produce)


def _encode(generator: TrainableGenerator, pixels: NDArray[np.uint8], origin: str) -> NDArray[np.float32]:
    """Return latents [N, C, H, W] of pictures [N, height, width, 3]. Errors: ImagesError if they are not finite."""
    shown = to_tensor(pixels, generator.generator.device)
    with torch.no_grad():
        latents: NDArray[np.float32] = generator.generator.encode(shown).float().cpu().numpy()
    if not np.isfinite(latents).all():
        raise ImagesError(f"the base's autoencoder encodes {origin} to numbers that are not finite; use another base")
    return latents


def open_examples(work: Work) -> tuple[Examples, Examples]:
    """Return the examples to learn from and those to measure on. They are the same if the images are few."""
    folder = work.folder / "images"
    latents = np.load(folder / "latents.npy", mmap_mode="r")
    captions = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    classes = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    classes = classes if any(name is not None for name in classes) else ()
    copies = len(work.recipe.learning.mirrors)

    # Hold out a share of the images by lot, with their mirror images.
    count = len(captions) // copies
    held = round(count * work.recipe.validation.held_out) if count >= LEAST_HELD_OUT else 0
    lot = np.random.default_rng((work.recipe.learning.seed, 1)).permutation(count)
    learnt = np.sort(np.concatenate([lot[held:] + count * copy for copy in range(copies)]))
    measured = np.sort(lot[:held]) if held else learnt
    return Examples(latents, captions, learnt, classes), Examples(latents, captions, measured, classes)


def fit_structure_encoder(work: Work, generator: TrainableGenerator, examples: Examples) -> StructureEncoder:
    """Return the encoder in whose space images are compared: trained on them once, or untrained (random_encoder)."""
    structure, device = work.recipe.structure, generator.generator.device
    on_pixels = structure.encoder == "pixels"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(work.recipe.learning.seed)
        channels = 3 if on_pixels else examples.latents.shape[1]
        encoder = StructureEncoder(channels, structure.encoder_width).to(device)

    # It learns from the first images; on pixels, from the latents' own decoded images.
    def produce(folder: Path) -> dict[str, Any]:
        steps = 0 if structure.arm == "random_encoder" else structure.encoder_steps
        seen = examples.take(slice(0, ENCODER_IMAGES))[0].to(device)
        if on_pixels and steps:
            with torch.no_grad():
                parts = (seen[at : at + ENCODED_AT_ONCE] for at in range(0, len(seen), ENCODED_AT_ONCE))
                seen = torch.cat([generator.generator.decode(part) for part in parts])
        losses = fit_encoder(encoder, seen, steps, work.recipe.learning.seed)
        save_file(encoder.state_dict(), folder / "encoder.safetensors")
        return {"steps": steps, "losses": [losses[0], losses[-1]] if losses else []}

    finish_once(work.folder / "encoder", work.encoder_key, produce)
    encoder.load_state_dict(load_file(work.folder / "encoder" / "encoder.safetensors", device=str(device)))
    return encoder.eval().requires_grad_(False)
