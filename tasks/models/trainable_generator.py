"""Open a generator for training, with float32 weights that no other work shares."""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.training.generator import GeneratorTraining
from tailforge.tasks.methods.generator_training.adapters import fold_weights, prepare_weights, without_adapters
from tailforge.tasks.methods.generator_training.denoising import Denoise, Network
from tailforge.tasks.methods.generator_training.noise import PREDICTIONS, NoiseSchedule
from tailforge.tasks.methods.sampling.generator import Conditioning, join_conditionings
from tailforge.tasks.models.text_to_image import open_generator
from tailforge.tasks.models.unet_generator import UNetGenerator

REMEMBERED = 4096  # encoded prompts in memory


class TrainableGenerator:
    """A UNet pipeline with its noise schedule. Errors: ModelError for another kind of pipeline."""

    def __init__(self, model: ResolvedModel, device: torch.device) -> None:
        generator = open_generator(model, device, whole=True)
        if not isinstance(generator, UNetGenerator) or generator.inpaints:
            kind = type(generator.pipeline).__name__
            raise ModelError(f"base: {model.path} is a {kind}; training needs a UNet: Stable Diffusion 1.x, 2.x or XL")
        self.generator = generator
        self.unet: UNet2DConditionModel = generator.pipeline.unet
        self.schedule = _read_schedule(generator.pipeline.scheduler.config, device)
        self.weights = "all"
        self._texts: OrderedDict[str, Conditioning] = OrderedDict()

    def prepare(self, recipe: GeneratorTraining, keeps_source: bool = False) -> Network:
        """Return the network for training, with trainable weights. `keeps_source`: also as it is before training."""
        # Full training copies the source. Adapters are switched off instead.
        self.weights = recipe.weights
        source = self._keep_source() if keeps_source and recipe.weights != "lora" else None
        if recipe.start == "scratch":
            self.unet.load_state_dict(_untrained(self.unet, recipe.learning.seed).state_dict())

        # Adapters exist only from here on.
        prepare_weights(self.unet, recipe.weights, recipe.lora, recipe.learning.seed)
        if keeps_source and recipe.weights == "lora":
            source = self._denoise_as_source
        return Network(self.unet, self.generator.denoise, self.embed, self.schedule, self._last(), source)

    def finish(self) -> None:
        """Fold adapters and scales into the weights, so that the UNet is a plain one again."""
        fold_weights(self.unet, self.weights)

    @torch.no_grad()
    def embed(self, captions: Sequence[str]) -> Conditioning:
        """Encode captions as rows, in order: embeds [captions, S, D]. "" is the model's unconditional input."""
        # Encode each distinct caption once, and keep those of recent use.
        for caption in dict.fromkeys(captions):
            if caption not in self._texts:
                found = self.generator.encode_prompt(caption) if caption else self.generator.encode_negative("")
                self._texts[caption] = found
            self._texts.move_to_end(caption)

        # Forget the oldest only after all rows are joined.
        rows = join_conditionings([self._texts[caption] for caption in captions])
        while len(self._texts) > REMEMBERED:
            self._texts.popitem(last=False)
        return rows

    def _last(self) -> nn.Parameter:
        """Return the trainable weights nearest to the output, at which gradients of losses are compared."""
        last: nn.Parameter = self.unet.conv_out.weight
        return last if last.requires_grad else [value for value in self.unet.parameters() if value.requires_grad][-1]

    def _keep_source(self) -> Denoise:
        """Return the denoiser of a copy of the UNet."""
        pipeline = copy.copy(self.generator.pipeline)
        pipeline.register_modules(unet=copy.deepcopy(self.unet))
        return UNetGenerator(pipeline).denoise

    def _denoise_as_source(self, noisy: Tensor, times: Tensor, text: Conditioning) -> Tensor:
        with without_adapters(self.unet):
            return self.generator.denoise(noisy, times, text)


def _read_schedule(config: Any, device: torch.device) -> NoiseSchedule:
    # DDPM has the plain schedule; some samplers round its last level up from zero.
    scheduler = DDPMScheduler.from_config(config)
    prediction = str(scheduler.config.prediction_type)
    if prediction not in PREDICTIONS:
        raise ModelError(f"base: the scheduler predicts {prediction!r}; training supports {', '.join(PREDICTIONS)}")
    return NoiseSchedule(scheduler.alphas_cumprod.to(device), prediction)


def _untrained(unet: UNet2DConditionModel, seed: int) -> UNet2DConditionModel:
    """Return an untrained UNet of the same shape."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DConditionModel.from_config(unet.config)
