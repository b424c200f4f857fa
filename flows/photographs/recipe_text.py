"""Write the recipe that fills the tail of inspected photographs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tailforge.catalog.inspection.counts import ClassCount
from tailforge.catalog.inspection.gates import FEWEST
from tailforge.catalog.inspection.names import name_dataset
from tailforge.flows.photographs.commented import Commented
from tailforge.flows.photographs.generator_text import (
    is_small,
    locate_source,
    tell_licence,
    write_adapted,
    write_unchanged,
)
from tailforge.flows.photographs.inspect import Inspection, home_of
from tailforge.flows.photographs.known_words import Search
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.settings.fields import ModelSource
from tailforge.schemas.settings.prompts import Prompts
from tailforge.tasks.images.measures import Measures
from tailforge.tasks.models.generator_files import is_trainable

CANDIDATES = 8  # noises per image of a search; our choice


@dataclass(frozen=True)
class Names:
    """What the files call things: the dataset, the table, and folders of references by concept."""

    dataset: str
    table: str
    references: Mapping[str, str]


@dataclass(frozen=True)
class Drawing:
    """How the recipe draws. `given`: the generator that the user named; None: a new network, or the embedded one.

    `search`: a search of the named generator, which then is not adapted; None: no search.
    """

    given: ModelSource | None
    search: Search | None
    prompts: Prompts


def name_files(inspection: Inspection, table: str, folders: Mapping[str, str]) -> Names:
    """Return the names of the files that belong to the photographs."""
    home = home_of(inspection.origin)
    return Names(name_dataset(home.stem if home.suffix else home.name), table, folders)


def write_recipe(inspection: Inspection, names: Names, root: Path | None, drawing: Drawing) -> str:
    """Return the recipe as commented YAML. `root`: folder of the photographs; None: bytes in the table."""
    out, given, search = Commented(), drawing.given, drawing.search
    _write_head(out, inspection, names, adapted=search is None)
    if given is not None and search is not None:
        write_unchanged(out, given, f"not adapted: {search.describe()}")
    elif given is not None and not is_trainable(locate_source(given)):
        write_unchanged(out, given, "a pipeline without a UNet cannot be adapted")
    else:
        write_adapted(out, inspection, names.table, root, given)

    _write_engine(out, given is None or is_small(given), search)
    _write_concepts(out, inspection, names)
    _write_prompts(out, drawing.prompts)
    _write_quality(out, inspection, search)
    _write_files(out, inspection)
    return out.text()


def _write_head(out: Commented, inspection: Inspection, names: Names, *, adapted: bool) -> None:
    images, tail = inspection.images, inspection.tail
    out.remark(
        f"Fills the tail of {count_of(len(images), 'photograph')} of {inspection.origin}. Written by tailforge init.",
        f"photographs.html shows the photographs; {names.table} lists each with its split.",
    )
    for each, name in inspection.renamed.items():
        out.remark(f"Class {each!r} of the photographs is concept {name!r}, since a recipe cannot hold the name.")
    if tail.left_out:
        out.remark(f"No room for {count_of(len(tail.left_out), 'class')}: a mask tells 254 concepts apart at most.")

    out.put("name", names.dataset, "the dataset's name; versions are NAME@1.0.0 and so on")
    how = "drawn by a generator that saw photographs of them" if adapted else "searched for by photographs of them"
    text = f"Images for the rare classes of {names.dataset}, {how}."
    out.put("description", text, "for the card; write what a reader should know")
    out.put("license", "CC-BY-4.0", "CHANGE: the licence of the drawn images; mind that of your photographs")
    if names.references:
        out.put("references_license", *tell_licence(inspection))
    out.put("seed", inspection.question.seed, "another seed draws other images")


def _write_engine(out: Commented, small: bool, search: Search | None) -> None:
    out.add("engine:", "how it draws")
    if search is None:
        out.put(
            "  kind", "plain", "each image from its own noise; best_of_n and seed_select search, and need a CLIP model"
        )
    else:
        out.put("  kind", "best_of_n", "the noise that looks most like the references; seed_select also moves it")
        out.put("  candidates", CANDIDATES, "noises per image; more find the class more often, and take longer")
        out.put("  encoder", search.encoder.model_dump(exclude_none=True), "CLIP model that compares with references")
    out.put("  steps", 16 if small else 30, "denoising steps; more take longer")
    if small:
        out.put("  guidance", 3.0, "how closely an image follows its prompt; others have their own default")
    out.put("  batch_size", 8, "images at once; less needs less memory")


def _write_concepts(out: Commented, inspection: Inspection, names: Names) -> None:
    tail = inspection.tail
    rule = inspection.question.fill
    out.add("concepts:", f"classes with fewer than {tail.target:,} training photographs ({rule} of all classes)")
    for each in tail.rare:
        out.put("  - name", each.name, _explain_class(each, inspection))
        out.put("    requested", each.requested, f"fills {each.train:,} up to {each.train + each.requested:,}")
        if each.name in names.references:
            chosen = count_of(len(inspection.references[each.name]), "photograph")
            out.put("    references", names.references[each.name], f"{chosen} of train: no outliers, far apart")
    out.put("splits", {"train": 1.0}, "drawn images are for training alone; test on photographs")


def _explain_class(each: ClassCount, inspection: Inspection) -> str:
    counts = ", ".join(f"{split} {number:,}" for split, number in each.splits.items())
    own = next(name for name, concept in inspection.concepts.items() if concept == each.name)
    return f"photographs: {counts}" + ("" if own == each.name else f"; class {own!r} of the photographs")


def _write_prompts(out: Commented, prompts: Prompts) -> None:
    out.add("prompts:", "what the generator is told")
    out.put("  templates", list(prompts.templates), "text with {concept}; other slots are in attributes")
    if prompts.attributes:
        out.put("  attributes", {name: list(words) for name, words in prompts.attributes.items()}, "words that vary")


def _write_quality(out: Commented, inspection: Inspection, search: Search | None) -> None:
    out.add("quality:", "what is rejected")
    if search is not None:
        out.put("  scorer", search.encoder.model_dump(exclude_none=True), "CLIP model that scores images")
    _write_gates(out, inspection, search)

    out.add("  near_duplicates:", "one of two images that look alike is enough")
    out.put("    max_distance", 3, "bits of 64 in which the hashes of two images may differ")
    if inspection.references:
        out.put("    against_references", True, "also reject copies of the reference photographs")
    oversample = 1.3 if search is None else 1.1
    out.put("  oversample", oversample, "images of the first round per requested image, since some are rejected")
    out.put("  max_rounds", 3, "rounds until every concept has its images")


def _write_gates(out: Commented, inspection: Inspection, search: Search | None) -> None:
    out.add("  gates:", _explain_gates(inspection.measures))
    for name, gate in inspection.gates.items():
        bounds = gate.model_dump(exclude_none=True)
        out.put(f"    {name}", bounds, _explain_gate(name, inspection.measures))
    if search is not None and len(inspection.tail.rare) > 1:
        out.put("    concept_margin", {"min": 0.0}, "at least as near to its own concept as to each other one")


def _write_files(out: Commented, inspection: Inspection) -> None:
    out.add("sharding:", "the published files")
    out.put("  image_format", "png", "lossless; jpg is smaller")
    out.put("  references", bool(inspection.references), "small copies in the published report; false if private")


def _explain_gates(measures: Measures) -> str:
    count = len(measures.places)
    if count < FEWEST:
        return f"the default bounds, since {count_of(count, 'photograph')} tell no quantiles"
    return "bounds of your photographs, at the generator's size: 1 % and 99 % quantiles with room"


def _explain_gate(name: str, measures: Measures) -> str:
    values = sorted(measures.scores[name].tolist())
    low, middle, high = (values[round(share * (len(values) - 1))] for share in (0.01, 0.5, 0.99))
    return f"photographs: {low:.3g} to {high:.3g}, median {middle:.3g}"
