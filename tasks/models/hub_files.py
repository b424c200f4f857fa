"""Read single files of hub models before the models are downloaded. Import it where it is needed: plans go without."""

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download

from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.tasks.models.generator_files import read_json


def read_hub_json(model: ResolvedModel, name: str) -> dict[str, Any]:
    """Return the JSON object in a file of a hub model, from the cache or else the hub. Errors: ModelError."""
    try:
        file = hf_hub_download(model.path, name, revision=model.revision)
    except Exception as error:  # the hub's client raises classes of its own and of its transport
        raise ModelError(
            f"{name} of hub model {model.path}@{model.revision} cannot be downloaded: {describe_failure(error)}; check "
            "name, revision and connection"
        ) from error
    return read_json(Path(file))
