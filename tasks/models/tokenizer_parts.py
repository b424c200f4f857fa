"""Read a tokenizer that is saved in several files, by transformers, which knows all forms."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, CLIPTokenizer


def read_parts(folder: Path, *, is_clip: bool) -> tuple[Tokenizer, int]:
    """Return a folder's tokenizer and the number of tokens that its encoder reads.

    Errors: those of transformers for a damaged file.
    """
    family = CLIPTokenizer if is_clip else AutoTokenizer
    found: Any = family.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return found.backend_tokenizer, int(found.model_max_length)
