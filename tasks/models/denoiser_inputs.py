"""Check the input channels of a denoiser: latents alone, or a mask and the masked image beside them.

Networks that were trained to inpaint read more channels. For latents of C channels and s pixels per latent:

    Stable Diffusion and XL   2 C + 1: latents, mask (1), latents of the masked image (C)
    Flux Fill                 4 (2 C + s^2) in tokens of 2 x 2 latents: latents, masked image (C), mask (s^2)
"""

from collections.abc import Mapping
from typing import Any

from tailforge.schemas.errors import ModelError

# Pipelines of such networks, and the pipelines of the same networks that draw from text alone.
INPAINTING = {
    "StableDiffusionInpaintPipeline": "StableDiffusionPipeline",
    "StableDiffusionXLInpaintPipeline": "StableDiffusionXLPipeline",
    "FluxFillPipeline": "FluxPipeline",
}
CHANNELS = {"unet": 4, "transformer": 64}  # diffusers' defaults
AUTOENCODER = "AutoencoderKL"  # another one reads the mask as well, and its drawings would differ

Config = Mapping[str, Any]


def check_inputs(kind: str, denoiser: Config, vae: Config, index: Config, origin: str) -> None:
    """Check that a denoiser reads what its pipeline class `kind` gives it. `origin`: the denoiser's, for the error.

    `index`: the configuration of the pipeline. Errors: ModelError.
    """
    if kind not in (*INPAINTING, *INPAINTING.values()):
        return
    if kind in INPAINTING:
        _refuse_unequal(kind, vae, index, origin)

    # Flux packs 2 x 2 latents into a token, and gives a channel to each pixel of the mask.
    latents, stride = vae.get("latent_channels", 4), 2 ** (len(vae.get("block_out_channels") or (0,)) - 1)
    packed = 4 if "Flux" in kind else 1
    known = {False: packed * latents, True: packed * (2 * latents + (stride**2 if "Flux" in kind else 1))}
    found = denoiser.get("in_channels", CHANNELS["transformer" if "Flux" in kind else "unet"])
    wanted = known[kind in INPAINTING]
    if found == wanted:
        return

    # The other class of the same network may fit.
    other = INPAINTING.get(kind) or next(name for name, plain in INPAINTING.items() if plain == kind)
    advice = f"its class is {other}: name that in model_index.json" if found in known.values() else "use another model"
    raise ModelError(f"{origin}: the network has {found} input channels, and a {kind} needs {wanted}; {advice}")


def _refuse_unequal(kind: str, vae: Config, index: Config, origin: str) -> None:
    """Refuse a model that diffusers' pipeline would condition in another way. Errors: ModelError."""
    if index.get("requires_aesthetics_score"):
        raise ModelError(f"{origin}: a {kind} with requires_aesthetics_score is not supported; use another model")
    if vae.get("_class_name", AUTOENCODER) != AUTOENCODER:
        raise ModelError(
            f"{origin}: a {kind} with the autoencoder {vae['_class_name']!r:.80} is not supported; save it with an "
            f"{AUTOENCODER}"
        )
    if "XL" in kind and vae.get("latents_mean") is not None:
        raise ModelError(f"{origin}: a {kind} whose autoencoder has latents_mean is not supported; use another model")
