"""The untrained generator for small photographs: its latents are their pixels, and its texts differ."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tailforge.catalog.sources.models import digest_model
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.models.pipeline_folders import draw_images, open_pipeline
from tailforge.tasks.models.pixel_generator import (
    PixelNorm,
    build_autoencoder,
    build_text_encoder,
    build_unet,
    write_untrained,
)

GREY, COLOUR = PixelNorm((0.9,), (0.05,)), PixelNorm((0.1, -0.4, 0.6), (0.2, 0.5, 0.3))
CLASSES = ["cell", "cell multi", "hot spot", "hot spot multi", "no anomaly"]


@pytest.mark.parametrize("norm", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("size", [(40, 24), (16, 64)])
@pytest.mark.parametrize("kind", ["noise", "black", "white"])
def test_pixels_come_back_to_the_level(norm: PixelNorm, size: tuple[int, int], kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, *size, 3)).astype(np.uint8)
    pixels = pixels if kind == "noise" else np.full_like(pixels, 255 * (kind == "white"))
    if len(norm.mean) == 1:
        pixels = np.repeat(pixels[..., :1], 3, axis=-1)

    model = build_autoencoder(norm, size)
    shown = to_tensor(pixels, torch.device("cpu"))
    with torch.no_grad():
        posterior = model.encode(shown).latent_dist
        again = model.decode(posterior.mean).sample
    assert posterior.mean.shape == (4, len(norm.mean), *size)
    assert float(posterior.std.max()) < 1e-6
    np.testing.assert_array_equal(np.rint((again.permute(0, 2, 3, 1).numpy() + 1) * 127.5), pixels)

    # Latents are the normalised pixels, so noise levels mean what they mean in the method.
    mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (norm.mean, norm.std))
    torch.testing.assert_close(posterior.mean, (shown[:, : len(norm.mean)] - mean) / std, atol=2e-3, rtol=1e-3)


def test_the_text_encoder_tells_captions_apart() -> None:
    tokenizer, encoder = build_text_encoder([f"a photo of a {name}" for name in CLASSES], 0)
    texts = [*(f"a photo of a {name}" for name in CLASSES), ""]
    ids = tokenizer(texts, padding="max_length", max_length=32, truncation=True, return_tensors="pt")["input_ids"]
    found = encoder(ids)[0]
    spread = float(found.std())
    for first in range(len(texts)):
        for second in range(first):
            assert float((found[first] - found[second]).pow(2).mean().sqrt()) > 0.3 * spread


@pytest.mark.parametrize("widths", [(32, 64), (16, 32)])
def test_every_block_of_the_network_reads_the_caption(widths: tuple[int, int]) -> None:
    tokenizer, encoder = build_text_encoder(CLASSES, 0)
    unet = build_unet((16, 24), 1, widths, 0).eval()
    noise, outputs = torch.randn(1, 1, 16, 24), []

    # The first block has no attention: it reads the caption with the timestep.
    unet.down_blocks[0].register_forward_hook(lambda module, given, made: outputs.append(made[0]))
    with torch.no_grad():
        for name in ("cell", "hot spot"):
            ids = tokenizer(name, padding="max_length", return_tensors="pt")["input_ids"]
            unet(noise, torch.tensor(500), encoder(ids).last_hidden_state)
    assert not torch.allclose(*outputs, rtol=0, atol=1e-4)


def test_the_pipeline_draws_at_its_own_size_and_has_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_untrained(tmp_path / name, (40, 24), GREY, CLASSES, (16, 32), seed=3)
    assert digest_model(tmp_path / "one") == digest_model(tmp_path / "two")
    drawn = draw_images(open_pipeline(tmp_path / "one"), ["hot spot"], [1], 2, 1.0)
    assert drawn.shape == (1, 40, 24, 3)
    assert (drawn[..., :1] == drawn).all()
