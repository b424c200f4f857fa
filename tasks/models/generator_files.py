"""Check that a directory holds a generator that can be loaded, from file headers, before any work starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.tasks.models.denoiser_inputs import INPAINTING, check_inputs

INDEX = "model_index.json"
# Parts of each pipeline class with weights, and the names of their files. The first part is the denoiser.
DIFFUSION, MODEL = "diffusion_pytorch_model", "model"
SD = {"unet": DIFFUSION, "vae": DIFFUSION, "text_encoder": MODEL}
XL = {**SD, "text_encoder_2": MODEL}
FLUX = {"transformer": DIFFUSION, "vae": DIFFUSION, "text_encoder": MODEL, "text_encoder_2": MODEL}
WEIGHTS = {
    "StableDiffusionPipeline": SD,
    "StableDiffusionXLPipeline": XL,
    "StableDiffusion3Pipeline": {
        "transformer": DIFFUSION,
        "vae": DIFFUSION,
        "text_encoder": MODEL,
        "text_encoder_2": MODEL,
        "text_encoder_3": MODEL,
    },
    "FluxPipeline": FLUX,
    "StableDiffusionInpaintPipeline": SD,
    "StableDiffusionXLInpaintPipeline": XL,
    "FluxFillPipeline": FLUX,
}
# Libraries that hold the classes of a pipeline's parts. The last is diffusers' folder of the safety checker.
LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
FLUX_CLASSES = ("FluxPipeline", "FluxFillPipeline")
FLOWS = ("StableDiffusion3Pipeline", *FLUX_CLASSES)
FLOW_SCHEDULER = "FlowMatchEulerDiscreteScheduler"
# Schedulers of diffusers that may be saved with a UNet. A test compares the images of each with its pipeline's.
UNET_SCHEDULERS = (
    "CMStochasticIterativeScheduler", "CogVideoXDDIMScheduler", "DDIMInverseScheduler", "DDIMParallelScheduler",
    "DDIMScheduler", "DDPMParallelScheduler", "DDPMScheduler", "DEISMultistepScheduler",
    "DPMSolverMultistepInverseScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
    "EDMDPMSolverMultistepScheduler", "EDMEulerScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler",
    "HeunDiscreteScheduler", "IPNDMScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler",
    "LCMScheduler", "LMSDiscreteScheduler", "PNDMScheduler", "SASolverScheduler", "TCDScheduler",
    "UniPCMultistepScheduler",
)  # fmt: skip
# Those that a recipe can name, by engine.scheduler.
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "dpmsolver++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}
OPTIONAL = ("text_encoder_3", "tokenizer_3")  # T5 of Stable Diffusion 3; without it the pipeline reads zeros
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
HALF = "fp16"  # the variant of hub models' half-precision files
COPY_AGAIN = "copy or download the model again"
SAVE_MODULE = "of a torch module of your own by safetensors.torch.save_file(module.state_dict(), 'model.safetensors')"


def check_generator(model: ResolvedModel) -> None:
    """Check that a directory holds a complete pipeline of `WEIGHTS`. A hub model is checked when it loads.

    The check reads configurations and safetensors headers and compares file sizes with them. Errors: ModelError that
    names the file.
    """
    folder = generator_folder(model)
    if folder is None:
        return

    # The classes of pipeline and parts.
    index = read_json(folder / INDEX)
    kind = check_class(index.get("_class_name"), folder / INDEX)
    check_libraries(index, folder / INDEX)

    # The files of each part, and the tokenizer of each text encoder.
    for part, stem in WEIGHTS[kind].items():
        if part in absent_parts(index):
            continue
        _require_part(index, part, folder)
        config = read_json(folder / part / "config.json")
        if part == "unet":
            _check_unet(config, str(folder / part / "config.json"))
        for file in weight_files(folder / part, stem):
            check_safetensors(file)
        if part.startswith("text_encoder"):
            tokenizer = part.replace("text_encoder", "tokenizer")
            _require_part(index, tokenizer, folder)
            check_tokenizer(folder / tokenizer)

    # The denoiser's input channels, and the scheduler.
    denoiser = folder / next(iter(WEIGHTS[kind]))
    network, vae = (read_json(part / "config.json") for part in (denoiser, folder / "vae"))
    check_inputs(kind, network, vae, index, str(denoiser))
    scheduler = folder / "scheduler" / "scheduler_config.json"
    _check_scheduler(kind, read_json(scheduler).get("_class_name"), str(scheduler))


def is_trainable(model: ResolvedModel) -> bool:
    """Return whether a directory's pipeline has a UNet that draws from text alone; True for a hub model.

    Errors: ModelError.
    """
    kind = read_class(model)
    return kind is None or ("unet" in WEIGHTS[kind] and kind not in INPAINTING)


def check_trainable(model: ResolvedModel, field: str) -> None:
    """Check that a directory's pipeline can be trained. Errors: ModelError."""
    if not is_trainable(model):
        raise ModelError(
            f"{field}: training needs a UNet that draws from text alone: Stable Diffusion 1.x, 2.x or XL; {model.path} "
            "has none"
        )


def read_class(model: ResolvedModel) -> str | None:
    """Return the pipeline class of a directory, or None for a hub model. Errors: ModelError for an unknown class."""
    folder = generator_folder(model)
    return None if folder is None else check_class(read_json(folder / INDEX).get("_class_name"), folder / INDEX)


def check_loaded(pipeline: Any, where: str) -> None:
    """Check the configurations of a loaded pipeline as `check_generator` does for a directory.

    `where`: the pipeline's origin, for the error. Errors: ModelError.
    """
    kind = type(pipeline).__name__
    if "unet" in WEIGHTS[kind]:
        _check_unet(pipeline.unet.config, f"{where}, unet")
    denoiser = next(iter(WEIGHTS[kind]))
    config = getattr(pipeline, denoiser).config
    vae = {**pipeline.vae.config, "_class_name": type(pipeline.vae).__name__}
    check_inputs(kind, config, vae, pipeline.config, f"{where}, {denoiser}")
    _check_scheduler(kind, type(pipeline.scheduler).__name__, f"{where}, scheduler")


def absent_parts(index: Mapping[str, Any]) -> list[str]:
    """Return the optional parts that a pipeline of this index lacks."""
    if index.get("_class_name") != "StableDiffusion3Pipeline":
        return []
    return [part for part in OPTIONAL if None in (index.get(part) or [None])]


def generator_folder(model: ResolvedModel) -> Path | None:
    """Return the pipeline's directory, or None for a hub model.

    Errors: ModelError for a hub model without a revision or with a subfolder.
    """
    folder = Path(model.path) / (model.subfolder or "")
    if folder.is_dir():
        return folder
    if model.revision is None:
        raise ModelError(
            f"generator {folder} is no directory, and a hub model needs a revision; correct the path or add a revision"
        )
    if model.subfolder:
        raise ModelError(
            f"generator.subfolder is {model.subfolder!r}: the hub model {model.path} must be a whole "
            "pipeline; leave it out"
        )
    return None


def saved_scheduler(model: ResolvedModel) -> dict[str, Any] | None:
    """Return the configuration of the scheduler saved with a generator, or None for a hub model not yet downloaded.

    Errors: ModelError for a missing or damaged file.
    """
    folder = generator_folder(model)
    return None if folder is None else read_json(folder / "scheduler" / "scheduler_config.json")


def saved_size(model: ResolvedModel) -> tuple[int, int] | None:
    """Return the (height, width) of images of a pipeline with a UNet, in pixels; None if its files do not show it.

    Errors: ModelError for a damaged file.
    """
    # Only local pipelines with a UNet.
    folder = generator_folder(model)
    if folder is None or not all((folder / part / "config.json").is_file() for part in ("unet", "vae")):
        return None

    # The size of the latents, times 2 for each further block of the autoencoder.
    size = read_json(folder / "unet" / "config.json").get("sample_size")
    blocks = read_json(folder / "vae" / "config.json").get("block_out_channels")
    sides = [size, size] if isinstance(size, int) else size
    if not isinstance(sides, list) or len(sides) != 2 or not isinstance(blocks, list):
        return None
    height, width = (int(side) * 2 ** (len(blocks) - 1) for side in sides)
    return height, width


def check_class(found: object, origin: object) -> str:
    """Return the pipeline class `found` if the project can run it. `origin`: its file. Errors: ModelError."""
    if not isinstance(found, str) or found not in WEIGHTS:
        raise ModelError(f"{origin}: pipeline class is {found!r}; this project runs {', '.join(WEIGHTS)}")
    return found


def check_libraries(index: Mapping[str, Any], origin: object) -> None:
    """Check that a pipeline's parts are classes of diffusers and transformers, so that an index runs no other code.

    Errors: ModelError that names the part.
    """
    for part, entry in index.items():
        library = entry[0] if isinstance(entry, list) and entry else None
        if library is not None and library not in LIBRARIES:
            raise ModelError(
                f"{origin}: part {part!r:.80} is of library {library!r:.80}; only {', '.join(LIBRARIES)} are allowed"
            )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model. Errors: ModelError if the file is missing or holds anything else."""
    try:
        return parse_object(path.read_bytes(), finite=False)
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; {COPY_AGAIN}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {describe_damage(error)}; {COPY_AGAIN}") from error


def weight_files(folder: Path, stem: str) -> list[Path]:
    """Return the safetensors files of one part, full before half precision. Errors: ModelError if there are none."""
    # One file, or several under an index.
    for middle in ("", f".{HALF}"):
        whole = folder / f"{stem}{middle}.safetensors"
        if whole.is_file():
            return [whole]
        index = folder / f"{stem}.safetensors.index{middle}.json"
        if index.is_file():
            return _listed_files(folder, index)

    # A model without safetensors may have pickles, which are never loaded.
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLED) if folder.is_dir() else []
    if pickled:
        raise ModelError(
            f"{folder} holds its weights as a pickle ({pickled[0]}), which can run code when it is loaded; save them "
            "as safetensors: of a pipeline, or a model of transformers, by save_pretrained(..., "
            f"safe_serialization=True), {SAVE_MODULE}"
        )
    own = f", or save the weights {SAVE_MODULE}" if stem == "model" else ""
    raise ModelError(f"{folder / (stem + '.safetensors')} is missing; {COPY_AGAIN}{own}")


def _listed_files(folder: Path, index: Path) -> list[Path]:
    """Return the weight files that an index names. Errors: ModelError for a name outside the index's folder."""
    named = read_json(index).get("weight_map", {})
    names = sorted(set(map(str, named.values()))) if isinstance(named, dict) else []
    if not names or any("/" in name or "\0" in name for name in names):
        raise ModelError(f"{index}: weight_map must name files beside it; {COPY_AGAIN}")
    return [folder / name for name in names]


def weights_variant(folder: Path) -> str | None:
    """Return "fp16" if the directory's denoiser has only half-precision files, else None."""
    files = [file.name for part in ("unet", "transformer") for file in (folder / part).glob("*.safetensors")]
    return HALF if files and all(name.startswith(f"{DIFFUSION}.{HALF}") for name in files) else None


def check_safetensors(path: Path) -> None:
    """Check that a file's header is readable and fits the file's length. Errors: ModelError."""
    try:
        with safe_open(path, framework="numpy"):
            pass
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; {COPY_AGAIN}") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {describe_failure(error)}; {COPY_AGAIN}") from error
    except SafetensorError as error:
        raise ModelError(
            f"{path} is {path.stat().st_size} bytes long and not a safetensors file: {error}; {COPY_AGAIN}, or, if it "
            "is a pointer of Git LFS, run `git lfs pull`"
        ) from error


def check_tokenizer(folder: Path) -> None:
    """Check that a tokenizer's files exist and are valid JSON. Errors: ModelError that names the file."""
    if (folder / "tokenizer.json").is_file():
        read_json(folder / "tokenizer.json")
        return
    read_json(folder / "vocab.json")
    if not (folder / "merges.txt").is_file():
        raise ModelError(f"{folder / 'merges.txt'} is missing; {COPY_AGAIN}")


def _require_part(index: dict[str, Any], part: str, folder: Path) -> None:
    entry = index.get(part)
    if not isinstance(entry, list) or None in entry:
        raise ModelError(f"{folder / INDEX} does not list {part!r}; the pipeline needs it")
    if not (folder / part).is_dir():
        raise ModelError(f"{folder / part} is missing although {INDEX} lists it; {COPY_AGAIN}")


def _check_scheduler(kind: str, found: object, origin: str) -> None:
    allowed = (FLOW_SCHEDULER,) if kind in FLOWS else UNET_SCHEDULERS
    if found not in allowed:
        alone = f"only {FLOW_SCHEDULER}" if kind in FLOWS else f"one of {', '.join(allowed)}; save it with one of them"
        raise ModelError(f"{origin}: the scheduler is {found!r}; a {kind} runs with {alone}")


def _check_unet(config: Mapping[str, Any], origin: str) -> None:
    if config.get("time_cond_proj_dim") is not None:
        raise ModelError(
            f"{origin}: time_cond_proj_dim is {config['time_cond_proj_dim']}: guidance-distilled (LCM) networks are "
            "not supported; use the model they were distilled from"
        )
