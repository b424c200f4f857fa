"""Tell the kinds of a recipe's directories apart, from their files and without loading a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.tasks.models.generator_files import INDEX, check_safetensors, check_tokenizer, read_json, weight_files

# Kinds of a recipe's directories, in the words of errors.
PIPELINE, CLIP, CLASSIFIER = "a diffusers pipeline", "a CLIP model", "an image classifier"
UNNAMED = "a model whose config.json names no architecture"
SCORER = "quality.scorer"  # field of a recipe's CLIP model, for errors


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Begin the message of a ModelError inside the block with the recipe's `field`. Errors: ModelError."""
    try:
        yield
    except ModelError as error:
        if str(error).startswith(field):
            raise
        raise ModelError(f"{field}: {error}") from error


def require_kind(model: ResolvedModel, field: str, wanted: str, advice: str = "") -> None:
    """Check that a directory holds a model of one kind. A hub model is checked when it loads.

    `wanted`: PIPELINE, CLIP or CLASSIFIER. `field`: of the recipe. `advice`: another solution, for the error. Errors:
    ModelError for a directory of another kind.
    """
    # A directory whose kind is unknown may still load.
    folder = Path(model.path) / (model.subfolder or "")
    found = find_kind(folder)
    if found in (None, wanted) or (wanted == CLASSIFIER and found == UNNAMED):
        return

    # A folder inside may be meant.
    inner = next(
        (child.name for child in sorted(folder.iterdir()) if child.is_dir() and find_kind(child) == wanted), ""
    )
    hint = f"; its folder {inner!r} is one: add subfolder: {inner}" if inner else ""
    raise ModelError(f"{field}: {folder} holds {found}, but {field} must be {wanted}{hint}{advice}")


def find_kind(folder: Path) -> str | None:
    """Return PIPELINE, CLIP, CLASSIFIER, UNNAMED or the class of another model; None if the files do not show it.

    Errors: ModelError for a damaged config.json.
    """
    if (folder / INDEX).is_file():
        return PIPELINE
    if not (folder / "config.json").is_file():
        return None
    config = read_json(folder / "config.json")
    named = config.get("architectures") or [config.get("_class_name", "")]
    name = str(named[0]) if isinstance(named, list) else ""
    if "ForImageClassification" in name:
        return CLASSIFIER
    if config.get("model_type") == "clip":
        return CLIP
    return f"a {name}" if name else UNNAMED


def check_scorer(model: ResolvedModel) -> None:
    """Check that a directory holds a complete CLIP model, from file headers. A hub model is checked when it loads.

    Errors: ModelError that names the file.
    """
    folder = Path(model.path)
    if folder.is_dir():
        check_clip(folder / (model.subfolder or ""))


def check_clip(folder: Path) -> None:
    """Check that a directory holds a complete CLIP model. Errors: ModelError that names the file."""
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "clip":
        raise ModelError(f"{folder / 'config.json'}: model_type is {kind!r}; {SCORER} needs a CLIP model")
    for file in weight_files(folder, "model"):
        check_safetensors(file)
    check_tokenizer(folder)
