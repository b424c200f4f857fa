"""`tailforge init`: turn photographs into a recipe, a table, references and a page."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tailforge.catalog.images.reader import open_images
from tailforge.catalog.inspection.names import name_folders
from tailforge.catalog.inspection.table import find_root, write_table
from tailforge.catalog.pictures import PHOTOGRAPHS, find_suffix
from tailforge.catalog.sources.models import HUB_ID, MODELS, model_names, name_model
from tailforge.catalog.sources.recipes import load_recipe
from tailforge.catalog.user_paths import usable_path
from tailforge.flows.photographs.generator_text import locate_source
from tailforge.flows.photographs.inspect import Inspection, Question, describe_findings, home_of, inspect_photographs
from tailforge.flows.photographs.known_words import find_search
from tailforge.flows.photographs.new_folder import RECIPE, require_new, write_recipe_file, write_whole_folder
from tailforge.flows.photographs.page import gather_page
from tailforge.flows.photographs.recipe_text import Drawing, Names, name_files, write_recipe
from tailforge.schemas.errors import ImagesError, ModelError, UserError
from tailforge.schemas.evaluation import EvaluationSettings
from tailforge.schemas.settings.fields import ModelSource
from tailforge.schemas.settings.prompts import Prompts
from tailforge.tasks.models.generator_files import INDEX, saved_size
from tailforge.tasks.report.photographs import draw_photographs

PAGE, REFERENCES = "photographs.html", "references"
MANY: int = EvaluationSettings.model_fields["many"].default  # images of a frequent class, unless it is said
HUB_SIZE = (512, 512)  # height and width that a hub model is taken to draw, since its files are not here


def start_from_photographs(
    question: Question, out: Path | None, generator: str | None, prompts: Prompts
) -> dict[str, Any]:
    """Inspect photographs and write a folder with a recipe that fills their tail; return what was found and written.

    `out`: the folder, new or empty; by default NAME-recipe. `generator`: the model that draws. The
    build searches its noise if it knows the rare classes by name (`find_search`), and else adapts it; by default it
    trains a new network for small photographs, or adapts the embedded generator. Nothing is written unless all files
    are right. Errors: UserError of every kind.
    """
    given = None if generator is None else parse_generator(generator)
    source = usable_path(question.source, "images", ImagesError)
    folder = find_folder(source, out)
    inspection = inspect_photographs(replace(question, size=None if given is None else find_size(given)))
    drawing = Drawing(given, find_search(given, inspection), prompts)

    with write_whole_folder(folder) as temporary:
        commands = write_folder(temporary, folder, inspection, source, drawing)
    return _report(inspection, folder, drawing, commands)


def parse_generator(generator: str) -> ModelSource:
    """Return the source for catalog:NAME, a folder, or a pinned hub model owner/name@commit. Errors: ModelError."""
    model, revision = name_model(generator, "--generator")

    # A folder, a name of the catalog, or a hub model with its commit.
    if Path(model).is_dir():
        if not (Path(model) / INDEX).is_file():
            raise ModelError(f"--generator {generator!r}: {model} has no {INDEX}; name the folder of a whole pipeline")
    elif generator.startswith("catalog:"):
        name = generator.removeprefix("catalog:")
        if name not in model_names() or not (MODELS / name / INDEX).is_file():
            known = ", ".join(each for each in model_names() if (MODELS / each / INDEX).is_file())
            raise ModelError(f"--generator: the catalog has no generator {name!r}; it has: {known}")
    elif revision is None or not HUB_ID.match(model):
        raise ModelError(
            f"--generator {generator!r}: give a folder that exists, catalog:NAME, or a hub model with its commit, "
            "owner/name@COMMIT (40 hex digits)"
        )
    return ModelSource(model=model, revision=revision)


def find_size(source: ModelSource) -> tuple[int, int]:
    """Return (height, width) that a generator draws, by its files; of a hub model 512 x 512."""
    return saved_size(locate_source(source)) or HUB_SIZE


def find_folder(source: Path, out: Path | None) -> Path:
    """Return the folder to write. Errors: UserError for one that holds something, or is inside the photographs."""
    name = f"{home_of(str(source)).stem or 'photographs'}-recipe"
    folder = Path(name).absolute() if out is None else usable_path(out, "--out").absolute()
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{folder} is inside the photographs {source}; name a folder elsewhere by --out")
    require_new(folder)
    return folder


def write_folder(folder: Path, target: Path, inspection: Inspection, source: Path, drawing: Drawing) -> list[str]:
    """Write all files into `folder`, which becomes `target`, and check that each can be read.

    Return the commands that come next, in their order. Errors: UserError.
    """
    root = find_root(inspection.images, source)
    table = write_table(folder, inspection.images, root, inspection.labels, inspection.splits, inspection.groups)
    _check_table(table, root, len(inspection.images))
    names = name_files(inspection, table.name, copy_references(folder, inspection))

    write_recipe_file(folder, write_recipe(inspection, names, root, drawing))
    load_recipe(str(folder / RECIPE))
    commands = list_commands(target, inspection, names, root)
    page = gather_page(inspection, names.dataset, commands)
    (folder / PAGE).write_text(draw_photographs(page), encoding="utf-8")
    return commands


def _check_table(table: Path, root: Path | None, count: int) -> None:
    """Check that the reader finds all photographs again. Errors: ImagesError."""
    again = open_images(table, root=root)
    if len(again) != count:
        raise ImagesError(
            f"{count - len(again)} photographs cannot be named in a table: {again.left_out.first_error()}; rename them"
        )


def copy_references(folder: Path, inspection: Inspection) -> dict[str, str]:
    """Copy the chosen photographs into a folder per concept; return these folders, relative to the recipe."""
    names = name_folders(inspection.references)
    owners = {place: (name, n) for name, places in inspection.references.items() for n, place in enumerate(places, 1)}
    for name in names.values():
        (folder / REFERENCES / name).mkdir(parents=True)
    for place in sorted(owners):
        concept, number = owners[place]
        data = inspection.images.read(place)
        target = folder / REFERENCES / names[concept] / f"{number:03}{find_suffix(data, PHOTOGRAPHS)}"
        target.write_bytes(data)
    return {concept: f"{REFERENCES}/{name}" for concept, name in names.items()}


def list_commands(folder: Path, inspection: Inspection, names: Names, root: Path | None) -> list[str]:
    """Return the commands that come next, in their order.

    An evaluation comes last, if every class has photographs for it.
    """
    recipe = shlex.quote(_show(folder / RECIPE))
    commands = [f"tailforge plan {recipe}", f"tailforge build {recipe}"]
    if any(not each.splits.get(split) for each in inspection.tail.classes for split in ("validation", "test")):
        return commands

    # The classes that the recipe fills are the rare ones.
    few = max(each.train for each in inspection.tail.rare)
    words = ["tailforge", "evaluate", names.dataset, "--real", _show(folder / names.table)]
    words += [] if root is None else ["--root", _show(root)]
    words += ["--folder", _show(folder)]
    words += ["--few", str(few), *(["--many", str(few)] if few > MANY else [])]
    return [*commands, shlex.join(words)]


def _show(path: Path) -> str:
    """Return a path as a person types it here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _report(inspection: Inspection, folder: Path, drawing: Drawing, commands: list[str]) -> dict[str, Any]:
    """Return what was found and written, in plain values."""
    tail = inspection.tail

    return {
        "folder": str(folder),
        "recipe": str(folder / RECIPE),
        "page": str(folder / PAGE),
        "photographs": len(inspection.images),
        "measured": len(inspection.measures.places),
        "target": tail.target,
        "classes": [
            {"name": each.name, "splits": dict(each.splits), "requested": each.requested,
             "references": len(inspection.references.get(each.name, ()))}
            for each in tail.classes
        ],
        "renamed": inspection.renamed,
        "leaks": [_name_pair(inspection, each.one, each.other) for each in inspection.leaks],
        "twins": len(inspection.pairs),
        "search": None if drawing.search is None else drawing.search.describe(),
        "findings": describe_findings(inspection),
        "commands": commands,
    }  # fmt: skip


def _name_pair(inspection: Inspection, one: int, other: int) -> Sequence[str]:
    return [inspection.images.ids[one], inspection.images.ids[other]]
