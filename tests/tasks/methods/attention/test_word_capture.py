"""Arithmetic that all captures share: attention without its matrix, and how well two maps agree."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tailforge.tasks.methods.attention.word_capture import agree, apply_attention


def test_agreement_by_hand() -> None:
    rows = [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.5], [1.0, 1.0, 0.0, 0.0], [3.0] * 4]
    one, half, other, constant = (torch.tensor(row).reshape(1, 2, 2) for row in rows)
    cases = [(one, one, 1), (one, one * 9 - 4, 1), (one, half, 0.75), (one, other, 0), (constant, constant, 0)]
    for first, second, agreed in cases:
        assert agree(first, second).tolist() == agree(second, first).tolist() == [agreed]


@pytest.mark.parametrize("words", [1, 11])  # more words than a head has features
def test_attention_is_exact_without_its_matrix(words: int) -> None:
    generator = torch.Generator().manual_seed(0)
    query = 3 * torch.randn(2, 3, 64, 8, generator=generator)
    key = 3 * torch.randn(2, 3, 80, 8, generator=generator)
    chosen = (torch.rand(2, 16, words, generator=generator) < 0.3).float()
    largest = Largest()
    with torch.no_grad(), largest:
        found = apply_attention(query, key, chosen)
    matrix = (query.double() @ key.double().transpose(-1, -2) / 8**0.5).softmax(-1)
    expected = matrix.mean(1)[..., :16] @ chosen.double()
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)
    assert largest.elements < matrix.numel() // 2


def test_weights_of_all_keys_sum_to_one() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(1, 2, 12, 8, generator=generator), torch.randn(1, 2, 20, 8, generator=generator)
    weights = apply_attention(query, key, torch.eye(20)[None])
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 12), atol=1e-6, rtol=0)


class Largest(TorchDispatchMode):
    """Counts the elements of the largest tensor that an operation gives."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple) else [out]:
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.numel())
        return out
