"""Measure how much of a prompt a generator reads, with its tokenizers only, before images are made.

A text encoder reads a limited number of tokens (CLIP 77) and cuts the rest off. A concept is read if one encoder reads
its whole word and the denoiser attends to this encoder's tokens. That is CLIP for Stable Diffusion 1, 2 and XL, CLIP
or T5 for Stable Diffusion 3, and T5 for Flux. The CLIP of Flux makes one vector of the whole prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, CLIPTokenizer

from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import Prompt, ResolvedModel
from tailforge.tasks.models.diffusers_generator import find_tokens
from tailforge.tasks.models.flow_generators import FLUX_TOKENS, SD3_TOKENS
from tailforge.tasks.models.generator_files import INDEX, absent_parts, check_class, generator_folder, read_json

CLIP = None  # the tokenizer itself knows the number of tokens
# Tokenizers of each pipeline class, and the number of tokens that their encoders read.
TOKENIZERS: Mapping[str, Mapping[str, int | None]] = {
    "StableDiffusionPipeline": {"tokenizer": CLIP},
    "StableDiffusionXLPipeline": {"tokenizer": CLIP, "tokenizer_2": CLIP},
    "StableDiffusion3Pipeline": {"tokenizer": CLIP, "tokenizer_2": CLIP, "tokenizer_3": SD3_TOKENS},
    "FluxPipeline": {"tokenizer_2": FLUX_TOKENS},
}


@dataclass(frozen=True)
class TextReader:
    """A text encoder, which reads the first `length` tokens of a prompt."""

    tokenizer: Any
    length: int

    def reads(self, text: str, start: int, end: int) -> bool:
        """Return whether the encoder reads the characters [start, end) to the last one."""
        return _is_short(text, self.length) or bool(find_tokens(self.tokenizer, self.length, text, [(end - 1, end)])[0])

    def reads_all(self, text: str) -> bool:
        """Return whether the encoder reads the whole text."""
        return _is_short(text, self.length) or len(self.tokenizer(text, verbose=False)["input_ids"]) <= self.length


def _is_short(text: str, length: int) -> bool:
    """Return whether a text surely fits: a token has at least one byte, and a text gets two more tokens."""
    return len(text.encode()) + 2 <= length


def load_readers(model: ResolvedModel) -> tuple[TextReader, ...]:
    """Load the text encoders of a generator, once per process; none for a hub model, which is checked when it samples.

    Errors: ModelError for a tokenizer that cannot be loaded.
    """
    folder = generator_folder(model)
    return () if folder is None else _open(folder, model.digest)


@lru_cache(maxsize=8)
def _open(folder: Path, digest: str) -> tuple[TextReader, ...]:
    # The digest makes the cache forget a folder that has changed.
    index = read_json(folder / INDEX)
    kind = check_class(index.get("_class_name"), folder / INDEX)
    absent = {*absent_parts(index), *(part for part in TOKENIZERS[kind] if None in (index.get(part) or [None]))}
    known = [part for part in TOKENIZERS[kind] if part not in absent]
    return tuple(_open_tokenizer(folder / part, TOKENIZERS[kind][part]) for part in known)


def _open_tokenizer(folder: Path, length: int | None) -> TextReader:
    try:
        family = CLIPTokenizer if length is CLIP else AutoTokenizer
        tokenizer: Any = family.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise many classes for a damaged file
        raise ModelError(f"generator: the tokenizer in {folder} cannot be loaded: {error}; copy it again") from error
    return TextReader(tokenizer, length or int(tokenizer.model_max_length))


def reads_concept(readers: Sequence[TextReader], prompt: Prompt) -> bool:
    """Return whether one of the encoders reads the concept's word in a prompt, at one of its places."""
    spans = [(slot.start, slot.end) for slot in prompt.slots if slot.name == "concept"]
    return not readers or not spans or any(reader.reads(prompt.text, *span) for reader in readers for span in spans)


def reads_all(readers: Sequence[TextReader], text: str) -> bool:
    """Return whether one of the encoders reads a text to its end."""
    return not readers or any(reader.reads_all(text) for reader in readers)
