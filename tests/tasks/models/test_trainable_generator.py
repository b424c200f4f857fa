"""Generators opened to be trained: which weights learn, what the source is, and that folding changes no picture."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.training.generator import GeneratorTraining
from tailforge.tasks.methods.generator_training.batches import EpochSampler, Examples
from tailforge.tasks.methods.generator_training.denoising import Network
from tailforge.tasks.methods.generator_training.devices import OneDevice
from tailforge.tasks.methods.generator_training.noise import NoiseSchedule
from tailforge.tasks.methods.generator_training.plan import plan_learning
from tailforge.tasks.methods.generator_training.train import DenoiserLearner
from tailforge.tasks.models.trainable_generator import TrainableGenerator
from tests.support.tiny_flows import build_flux
from tests.support.tiny_generators import build_sd, build_sdxl

WORDS = ["a photo of a gear", "", "a bench"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ResolvedModel]:
    models = {}
    for name, build in (("sd", build_sd), ("xl", build_sdxl), ("flux", build_flux)):
        folder = tmp_path_factory.mktemp(name)
        build().save_pretrained(folder)
        models[name] = ResolvedModel(path=str(folder), digest="0" * 64)
    return models


def open_one(model: ResolvedModel, keeps_source: bool = False, **changes: Any) -> tuple[TrainableGenerator, Network]:
    generator = TrainableGenerator(model, torch.device("cpu"))
    learning = {"steps": 3, "batch": 3, "learning_rate": 1e-2, "warm_up": 0.0}
    recipe = {"kind": "generator", "name": "x", "base": "x", "images": {"folder": "x"}, "learning": learning, **changes}
    return generator, generator.prepare(GeneratorTraining.model_validate(recipe), keeps_source)


def advance(network: Network, steps: int = 2) -> DenoiserLearner:
    latents = np.random.default_rng(0).normal(size=(3, 4, 16, 16)).astype(np.float32)
    settings = GeneratorTraining.model_validate(
        {"kind": "generator", "name": "x", "base": "x", "images": {"folder": "x"},
         "learning": {"steps": 3, "batch": 3, "learning_rate": 1e-2, "warm_up": 0.0}}
    ).learning  # fmt: skip
    learner = DenoiserLearner(network, plan_learning(settings), None, OneDevice())
    for _ in range(steps):
        learner.advance(EpochSampler(Examples(latents, WORDS, np.arange(3)), 3, settings.prompt_dropout, settings.seed))
    return learner


def noisy() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn((3, 4, 16, 16), generator=draws), torch.tensor([10, 400, 900])


def output(network: Network) -> torch.Tensor:
    with torch.no_grad():
        return network.denoise(*noisy(), network.embed(WORDS))


@pytest.mark.parametrize("kind", ["sd", "xl"])
@pytest.mark.parametrize("weights", ["all", "lora", "bias_scale"])
def test_the_source_stays_and_folding_changes_nothing(saved: dict[str, ResolvedModel], kind: str, weights: str) -> None:
    generator, network = open_one(saved[kind], keeps_source=True, weights=weights)
    before = output(open_one(saved[kind])[1])
    assert torch.allclose(output(network), before, atol=1e-5)
    advance(network)
    learnt = output(network)
    assert not torch.allclose(learnt, before, atol=1e-3)
    assert network.source is not None
    with torch.no_grad():
        assert torch.equal(network.source(*noisy(), network.embed(WORDS)), before)
    generator.finish()
    assert torch.allclose(output(network), learnt, atol=1e-4)
    names = {name for name, _ in generator.unet.named_parameters()}
    assert names == {name for name, _ in open_one(saved[kind])[0].unet.named_parameters()}


def test_adapters_and_scales_are_few(saved: dict[str, ResolvedModel]) -> None:
    counts = {}
    for weights in ("all", "lora", "bias_scale"):
        generator, _ = open_one(saved["sd"], weights=weights)
        counts[weights] = sum(value.numel() for value in generator.unet.parameters() if value.requires_grad)
    assert counts["lora"] < 0.5 * counts["all"]
    assert counts["bias_scale"] < 0.1 * counts["all"]


def test_a_model_without_unet_is_refused(saved: dict[str, ResolvedModel]) -> None:
    with pytest.raises(ModelError, match="FluxPipeline; training needs a UNet"):
        TrainableGenerator(saved["flux"], torch.device("cpu"))


def test_captions_are_embedded_as_the_pipeline_does(saved: dict[str, ResolvedModel]) -> None:
    generator, network = open_one(saved["xl"])
    pipeline = generator.generator.pipeline
    assert isinstance(pipeline, StableDiffusionXLPipeline)
    wanted, _, pooled, _ = pipeline.encode_prompt(WORDS[0], do_classifier_free_guidance=False)
    rows = network.embed(WORDS)
    assert torch.allclose(rows.embeds[:1], wanted, atol=1e-6)
    assert rows.pooled is not None
    assert torch.allclose(rows.pooled[:1], pooled, atol=1e-6)
    assert isinstance(generator.schedule, NoiseSchedule)
