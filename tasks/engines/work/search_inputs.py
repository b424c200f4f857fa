"""Load the inputs of a search beside its job: the aim, the seeds, and the models that compare images."""

from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import normalize

from tailforge.catalog.store import Store
from tailforge.schemas.errors import EngineError, RecipeError
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.engines.search import search_engine
from tailforge.tasks.methods.packing.arrays import decode_array
from tailforge.tasks.methods.sampling.generator import ImageGenerator
from tailforge.tasks.methods.seed_select.aim import SMALLEST_GAP, Aim
from tailforge.tasks.methods.seed_select.engine import Goal, Seeds
from tailforge.tasks.models.clip import load_clip
from tailforge.tasks.models.text_to_image import load_build_generator


def load_search(job: PartitionJob, inputs: EngineInputs) -> tuple[ImageGenerator, Goal]:
    """Load the generator and the goal of a search: the encoder, the aim and the centroids [rivals, D] of the rivals.

    Errors: ModelError; RecipeError or EngineError if the aim does not fit the recipe's target.
    """
    # The aim may come from a build with another target, so it is checked again.
    build = job.build
    assert build.encoder is not None
    assert inputs.aim is not None
    model, encoder = load_build_generator(build), load_clip(build.encoder)
    aim = load_aim(build.store, inputs.aim.model_dump_json(), model.device)
    require_difference(job, aim)

    # The centroid of a rival is the mean of its references' unit vectors, scaled to length 1.
    rivals = [load_aim(build.store, rival.model_dump_json(), model.device) for rival in inputs.rivals]
    centroids = torch.stack([normalize(rival.units.mean(0), dim=-1) for rival in rivals]) if rivals else None
    return model, Goal(encoder, aim, centroids)


@lru_cache(maxsize=64)
def load_aim(store: str, receipt_json: str, device: torch.device) -> Aim:
    """Read the aim of a receipt (as JSON), once per process and receipt. Errors: DamagedArtifactError."""
    return read_aim(read_table(Store.open(store), Receipt.model_validate_json(receipt_json)), device)


def read_aim(table: pa.Table, device: torch.device | str = "cpu") -> Aim:
    """Return the aim in an AIMS table: features [rows, D] and the mean latent [C, H, W] of the references."""
    # References have a feature and a latent, plain samples a feature.
    rows = table.to_pylist()
    references = [row for row in rows if row["kind"] == "reference"]
    plain = [row["feature"] for row in rows if row["kind"] == "plain"]
    latents = [torch.from_numpy(decode_array(row["latent"])) for row in references]
    known = torch.tensor([row["feature"] for row in references])
    return Aim(
        references=known.to(device),
        plain=torch.tensor(plain).reshape(len(plain), known.shape[1]).to(device),
        latents=torch.stack(latents).mean(0).to(device),
    )


def require_difference(job: PartitionJob, aim: Aim) -> None:
    """Check that the references have something in common that plain samples lack.

    Without a difference every search would end at its first image. Errors: RecipeError if there is no difference;
    EngineError if too few plain samples are usable.
    """
    # Only some targets measure the difference to plain samples.
    engine = search_engine(job.build)
    if not engine.is_measured:
        return

    if len(aim.plain) < 8:
        raise EngineError(f"only {len(aim.plain)} plain samples of {job.concept!r} can be used; check the generator")
    if aim.gap(engine.target) <= SMALLEST_GAP:
        raise RecipeError(
            f"concept {job.concept!r}: its references have nothing in common that plain samples lack; check that they "
            "all show the concept, or use engine plain if the generator draws the concept without a search"
        )


@lru_cache(maxsize=16)
def load_seeds(store: str, inputs_json: str, device: torch.device) -> Seeds:
    """Read the seeds of the inputs (as JSON), once per process. Errors: EngineError if every search failed."""
    receipts = EngineInputs.model_validate_json(inputs_json).seeds
    rows = [row for receipt in receipts for row in read_table(Store.open(store), receipt).to_pylist()]
    if not rows:
        raise EngineError("no seed was found: every search's image was not finite; check the generator and engine")
    noise = torch.from_numpy(np.stack([decode_array(row["noise"]) for row in rows])).float().to(device)
    return Seeds(noise, tuple(row["prompt"] for row in rows))
