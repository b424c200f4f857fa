"""Write texts with a causal language model of transformers, for prompt expansion."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.tasks.methods.planning.samples import derive_seed
from tailforge.tasks.models.cache import load_once
from tailforge.tasks.models.generator_files import check_tokenizer
from tailforge.tasks.models.pretrained import load_weights, model_folder

ROLE = "prompts.language_model"
BATCH_SIZE = 32


class LanguageModel:
    """A causal model with seeded sampling. Each text of a call has a random generator of its own."""

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.device = next(model.parameters()).device
        ends = getattr(model.generation_config, "eos_token_id", None) or tokenizer.eos_token_id
        self.end_ids = {ends} if isinstance(ends, int) else set(ends or ())

    def complete(
        self, text: str, count: int, seed: int, *, max_new_tokens: int = 24, temperature: float = 0.9
    ) -> list[str]:
        """Return `count` continuations of `text`, each up to the model's end token or `max_new_tokens`.

        Errors: RecipeError if `text` is empty or fills the model's context.
        """
        # The text and its continuation share the context.
        prefix = self.tokenizer(text, return_tensors="pt").input_ids
        room = getattr(self.model.config, "max_position_embeddings", None)
        if prefix.shape[1] == 0 or (room is not None and prefix.shape[1] >= room):
            raise RecipeError(
                f"{ROLE}.instruction has {count_of(prefix.shape[1], 'token')}; this model reads 1 to {room}, with its "
                f"answer: {text!r}"
            )

        # The number of a text in the call decides its seed, in any batch.
        tokens = min(max_new_tokens, room - prefix.shape[1]) if room is not None else max_new_tokens
        generators = [torch.Generator().manual_seed(derive_seed(str(seed), f"text:{i}")) for i in range(count)]
        return [
            self.tokenizer.decode(ids, skip_special_tokens=True)
            for start in range(0, count, BATCH_SIZE)
            for ids in self._sample(prefix, generators[start : start + BATCH_SIZE], tokens, temperature)
        ]

    @torch.inference_mode()
    def _sample(
        self, prefix: Tensor, generators: list[torch.Generator], tokens: int, temperature: float
    ) -> list[list[int]]:
        """Return the new token ids of one batch, one row per generator, after the prefix [1, S]."""
        # All rows begin with the prefix.
        inputs = prefix.expand(len(generators), -1).to(self.device)
        past, rows, running = None, [list[int]() for _ in generators], set(range(len(generators)))
        for _ in range(tokens):
            output = self.model(input_ids=inputs, cache=past, use_cache=True)
            past = output.cache

            # Draws on the CPU are equal for every device.
            chances = torch.softmax(output.logits[:, -1].double().cpu() / temperature, dim=-1)
            drawn = [int(torch.multinomial(chances[i], 1, generator=own)) for i, own in enumerate(generators)]

            # A row stops at the model's end token.
            running -= {i for i in running if drawn[i] in self.end_ids}
            for i in running:
                rows[i].append(drawn[i])
            if not running:
                break
            inputs = torch.tensor(drawn, device=self.device)[:, None]
        return rows


def load_language_model(model: ResolvedModel) -> LanguageModel:
    """Load a language model, once per process. Errors: ModelError that names the missing or damaged file."""
    return load_once(("language_model", model.digest), lambda: _load(model))


def _load(model: ResolvedModel) -> LanguageModel:
    folder = model_folder(model, ROLE)
    check_tokenizer(folder)
    weights = load_weights(AutoModelForCausalLM, folder, ROLE)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise many classes for a damaged file
        raise ModelError(f"{ROLE}: tokenizer of {folder} cannot be loaded: {error}") from error
    return LanguageModel(weights, tokenizer)
