"""The folder of an encoder loads in transformers by its Auto classes, and gives the features that were trained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, CLIPModel, ViTMAEForPreTraining, ViTModel

from tailforge.schemas.training.pretraining import CaptionSettings, ContrastiveSettings, MaskedSettings
from tailforge.tasks.methods.pretraining.caption import build_caption, fit_tokenizer
from tailforge.tasks.methods.pretraining.contrastive import TwoHeads
from tailforge.tasks.methods.pretraining.masked import build_masked
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.models.encoders import load_encoder, save_encoder

SHAPE = {"patch_px": 8, "width": 16, "layers": 2, "heads": 2}
SIDE = 24
IMAGES = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module", params=["contrastive", "masked", "caption"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """(folder, model) of each use."""
    torch.manual_seed(3)
    tokenizer = None
    if request.param == "contrastive":
        model = TwoHeads(ContrastiveSettings(**SHAPE), SIDE).encoder
    elif request.param == "masked":
        model = build_masked(MaskedSettings(**SHAPE, decoder_width=16), SIDE)
    else:
        tokenizer = fit_tokenizer(["a gear on a bench"], ["gear"], 600)
        model = build_caption(CaptionSettings(**SHAPE, text_width=16, text_layers=1), tokenizer, SIDE)
    folder = tmp_path_factory.mktemp(request.param)
    save_encoder(folder, model.eval(), SIDE, tokenizer)
    return folder, model


def tokens_of(model, pixels: torch.Tensor) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """Patch tokens of the model in memory."""
    if isinstance(model, ViTMAEForPreTraining):
        vit, order = model.vit, torch.arange(9.0).expand(len(pixels), -1)
        kept, vit.config.mask_ratio = vit.config.mask_ratio, 0.0
        found = vit(pixels, noise=order).last_hidden_state
        vit.config.mask_ratio = kept
    elif isinstance(model, CLIPModel):
        found = model.vision_model(pixel_values=pixels).last_hidden_state
    else:
        found = model(pixels).last_hidden_state
    return found[:, 1:]


@torch.no_grad()
def test_the_features_are_those_of_the_trained_model(saved) -> None:  # type: ignore[no-untyped-def]
    folder, model = saved
    pixels = to_tensor(IMAGES)
    expected = tokens_of(model, pixels)
    assert expected.shape == (3, 9, 16)
    assert torch.equal(load_encoder(folder).tokens(pixels), expected)


@torch.no_grad()
def test_transformers_loads_it_by_its_auto_classes(saved) -> None:  # type: ignore[no-untyped-def]
    folder, model = saved
    auto = AutoModel.from_pretrained(folder).eval()
    prepared = AutoImageProcessor.from_pretrained(folder)([Image.fromarray(image) for image in IMAGES])
    pixels = torch.as_tensor(np.stack(prepared["pixel_values"]))
    torch.testing.assert_close(pixels, to_tensor(IMAGES))
    own = model.vit if isinstance(model, ViTMAEForPreTraining) else model
    assert type(auto) is type(own)
    theirs = auto.state_dict()
    for key, value in own.state_dict().items():
        assert torch.equal(theirs[key], value), key


def test_a_file_is_as_readable_as_another(saved: tuple[Path, object]) -> None:
    folder, _ = saved
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_a_caption_encoder_has_its_tokenizer(saved) -> None:  # type: ignore[no-untyped-def]
    folder, model = saved
    if not isinstance(model, CLIPModel):
        assert not list(folder.glob("tokenizer*"))
        return
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == model.config.text_config.max_position_embeddings
    ids = tokenizer(["a gear"], padding="max_length", return_tensors="pt").input_ids
    assert ids.shape == (1, tokenizer.model_max_length)


def test_an_encoder_can_be_tuned(saved) -> None:  # type: ignore[no-untyped-def]
    folder, model = saved
    encoder = load_encoder(folder)
    encoder.tokens(to_tensor(IMAGES)).sum().backward()
    assert any(parameter.grad is not None for parameter in encoder.module.parameters())
    assert isinstance(model, ViTModel | ViTMAEForPreTraining | CLIPModel)
