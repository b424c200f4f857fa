"""Measure how much of a prompt a generator reads, with its tokenizers only, before images are made.

A text encoder reads a limited number of tokens (CLIP 77) and cuts the rest off. A concept is read if one encoder reads
its whole word and the denoiser attends to this encoder's tokens. That is CLIP for Stable Diffusion 1, 2 and XL, CLIP
or T5 for Stable Diffusion 3, and T5 for Flux. The CLIP of Flux makes one vector of the whole prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from tailforge.schemas.errors import ModelError
from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import Prompt, ResolvedModel
from tailforge.tasks.models.denoiser_inputs import INPAINTING
from tailforge.tasks.models.generator_files import INDEX, absent_parts, check_class, generator_folder, read_json

SD3_TOKENS, FLUX_TOKENS = 256, 512  # lengths to which the pipelines cut a prompt for T5
CLIP = None  # the tokenizer itself knows the number of tokens
# Tokenizers of each pipeline class, and the number of tokens that their encoders read.
TOKENIZERS: dict[str, Mapping[str, int | None]] = {
    "StableDiffusionPipeline": {"tokenizer": CLIP},
    "StableDiffusionXLPipeline": {"tokenizer": CLIP, "tokenizer_2": CLIP},
    "StableDiffusion3Pipeline": {"tokenizer": CLIP, "tokenizer_2": CLIP, "tokenizer_3": SD3_TOKENS},
    "FluxPipeline": {"tokenizer_2": FLUX_TOKENS},
}
TOKENIZERS |= {name: TOKENIZERS[plain] for name, plain in INPAINTING.items()}

read_parts = when_called("tasks.models.tokenizer_parts", "read_parts")


@dataclass(frozen=True)
class TextReader:
    """A text encoder, which reads the first `length` tokens of a prompt. `tokenizer`: it cuts a text to them."""

    tokenizer: Tokenizer
    length: int

    def reads(self, text: str, start: int, end: int) -> bool:
        """Return whether the encoder reads the characters [start, end) to the last one."""
        if _is_short(text, self.length):
            return True
        return bool(overlapping(self.tokenizer.encode(text).offsets, [(end - 1, end)])[0])

    def reads_all(self, text: str) -> bool:
        """Return whether the encoder reads the whole text."""
        return _is_short(text, self.length) or not self.tokenizer.encode(text).overflowing


def _is_short(text: str, length: int) -> bool:
    """Return whether a text surely fits: a token has at least one byte, and a text gets two more tokens."""
    return len(text.encode()) + 2 <= length


def overlapping(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the positions of the tokens that overlap each span. `offsets`: the character span of each token."""
    return [
        [position for position, (first, last) in enumerate(offsets) if max(first, start) < min(last, end)]
        for start, end in spans
    ]


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
        tokenizer, read = _read_whole(folder) or read_parts(folder, is_clip=length is CLIP)
        tokenizer.no_padding()
        tokenizer.enable_truncation(length or read)
    except Exception as error:  # transformers and tokenizers raise many classes for a damaged file
        raise ModelError(f"generator: the tokenizer in {folder} cannot be loaded: {error}; copy it again") from error
    return TextReader(tokenizer, length or read)


def _read_whole(folder: Path) -> tuple[Tokenizer, int] | None:
    """Return a tokenizer in one file and the tokens that its encoder reads; None for a folder in another form.

    Without transformers, which takes seconds to import.
    """
    whole, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    length = read_json(config).get("model_max_length") if config.is_file() else None
    return (Tokenizer.from_file(str(whole)), length) if whole.is_file() and isinstance(length, int) else None


def reads_concept(readers: Sequence[TextReader], prompt: Prompt) -> bool:
    """Return whether one of the encoders reads the concept's word in a prompt, at one of its places."""
    spans = [(slot.start, slot.end) for slot in prompt.slots if slot.name == "concept"]
    return not readers or not spans or any(reader.reads(prompt.text, *span) for reader in readers for span in spans)


def reads_all(readers: Sequence[TextReader], text: str) -> bool:
    """Return whether one of the encoders reads a text to its end."""
    return not readers or any(reader.reads_all(text) for reader in readers)
