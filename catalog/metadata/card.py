"""The dataset card, README.md of a version, with the front matter for the Hugging Face Hub."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tailforge.catalog.metadata.generator_history import describe_training
from tailforge.catalog.metadata.worth import describe_worth
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.documents.worth import Worth
from tailforge.schemas.settings.engine_settings import EngineSettings
from tailforge.schemas.settings.engines import find_settings
from tailforge.schemas.settings.licences import describe_licence

# Size classes of the Hub: upper bound (exclusive) and name.
SIZE_CATEGORIES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
MEANINGS = {
    "png": "image, RGB",
    "jpg": "image, RGB",
    "seg.png": "mask: 0 background, categories (class + 1 for a class), 255 ignore",
    "json": "annotation: caption, slots, boxes and run-length masks of the instances, seed",
    "txt": "caption",
    "cls": "class, counted from 0",
    "noise.npy": "initial noise of the image, float16 [channel, row, column]",
    "attn.npy": "soft attention maps, float16 [slot, height, width], slots in the order of the annotation",
}


def write_card(dataset: Dataset, worth: Worth | None = None) -> str:
    """Return the card of a version, in Markdown. `worth`: what its newest evaluation says; None before one."""
    files = [_explain_files(dataset), _show_loading(dataset)]
    return compose_card(dataset, describe_front_matter(dataset), files, worth)


def compose_card(
    dataset: Dataset, front_matter: Mapping[str, Any], files: Sequence[str], worth: Worth | None = None
) -> str:
    """Return a card with the given front matter. `files`: sections on the files and on loading them."""
    header = yaml.safe_dump(dict(front_matter), sort_keys=False, allow_unicode=True)
    sections = [
        _introduce(dataset),
        describe_worth(dataset, worth),
        _list_counts(dataset),
        *files,
        _describe_origin(dataset),
        *_describe_generator(dataset),
    ]
    return f"---\n{header}---\n\n" + "\n\n".join(sections) + "\n"


def describe_front_matter(dataset: Dataset) -> dict[str, Any]:
    """Return licence, tags and configurations of the card. The tars are the default configuration."""
    total = dataset.counts.samples

    return {
        **describe_licence(dataset.license).hub,
        "pretty_name": dataset.name,
        "tags": ["synthetic", "webdataset", "tailforge"],
        "task_categories": ["image-classification", "image-segmentation", "text-to-image"],
        "size_categories": [next((name for bound, name in SIZE_CATEGORIES if total < bound), "n>10M")],
        "configs": [
            {
                "config_name": "default",
                "default": True,
                "description": identify_content(dataset),
                "data_files": [{"split": split, "path": f"shards/{split}-*.tar"} for split in dataset.counts.by_split],
            }
        ],
    }


def identify_content(dataset: Dataset) -> str:
    """Return a description of a configuration that is unique for the version's content.

    `datasets` caches by the folder's name and the card's configurations. Without this description, version 1.0.0 of one
    dataset would be loaded in place of another's.
    """
    return f"{dataset.name} {dataset.version}, manifest sha256 {dataset.files['manifest.parquet'].sha256}"


def _introduce(dataset: Dataset) -> str:
    """Return the title, the description and the numbers of images."""
    counts = dataset.counts

    return "\n\n".join(
        [
            f"# {dataset.name} {dataset.version}",
            str(dataset.recipe["description"]),
            f"{count_of(counts.samples, _name_image(dataset))} of {count_of(len(dataset.classes), 'concept')}, "
            "with captions, masks, boxes and scores. Another "
            f"{counts.rejected} were rejected and {counts.surplus} were not needed, because enough had been accepted "
            "(rejects.parquet has both).",
            _name_source_type(dataset),
        ]
    )


def _settings_of(dataset: Dataset) -> type[EngineSettings]:
    """Return the settings class of the engine; of an unknown engine the base."""
    return find_settings(dataset.recipe["engine"].get("kind", "plain")) or EngineSettings


def _name_image(dataset: Dataset) -> str:
    return "composite image" if _settings_of(dataset).follows_sources else "synthetic image"


def _name_source_type(dataset: Dataset) -> str:
    """Return the sentences on what the images show, and their IPTC digital source type."""
    settings = _settings_of(dataset)
    term = f"the IPTC digital source type `{settings.digital_source_type}`."
    if not settings.follows_sources:
        return f"No image shows anything that exists: all have {term}"
    drawn = "a model drew" if settings.needs_generator else "were drawn into without a model"
    return (
        f"Every image is a photograph with regions that {drawn}. Pixels outside the regions are the photograph's "
        f"own. An image is in the split of its photograph. All have {term}"
    )


def _list_counts(dataset: Dataset) -> str:
    """Return the section with samples per split and class, and further categories of the masks."""
    splits = [f"| {split} | {count} |" for split, count in dataset.counts.by_split.items()]
    concepts = [
        f"| {index} | {name} | {dataset.counts.by_concept.get(name, 0)} |" for index, name in enumerate(dataset.classes)
    ]
    further = [
        f"| {value} | {category.name} | {'thing' if category.thing else 'stuff'} |"
        for value, category in enumerate(dataset.mask_categories, 1)
        if value > len(dataset.classes)
    ]
    head = ["", "Masks hold further values:", "", "| value | category | kind |", "|---|---|---|"]

    return "\n".join(
        [
            "## Counts",
            "",
            "| split | samples |",
            "|---|---|",
            *splits,
            "",
            "| class | concept | samples |",
            "|---|---|---|",
            *concepts,
            *([*head, *further] if further else []),
        ]
    )


def _explain_files(dataset: Dataset) -> str:
    """Return the section on the version's files."""
    fields = [f"| `{field}` | {MEANINGS[field]} |" for field in dataset.fields]

    return "\n".join(
        [
            "## Files",
            "",
            "`shards/*.tar` are WebDataset shards. The members of a sample are `<sample_id>.<field>`:",
            "",
            "| field | content |",
            "|---|---|",
            *fields,
            "",
            "`manifest.parquet` has one row per sample, in the order of the shards: all scores, boxes, provenance, and "
            "the position of each member (shard, offset, size, sha256). `rejects.parquet` has the samples that are not "
            "published. `dataset.json` has the recipe, the lineage and the sha256 of every file.",
        ]
    )


def _show_loading(dataset: Dataset) -> str:
    """Return the section with code that loads the version."""
    split = "train" if "train" in dataset.counts.by_split else next(iter(dataset.counts.by_split))
    image = next(field for field in dataset.fields if field in ("png", "jpg"))
    return f"""## Loading

```python
from datasets import load_dataset

samples = load_dataset("webdataset", data_files={{"{split}": "shards/{split}-*.tar"}}, split="{split}")
print(samples[0]["{image}"], samples[0]["txt"])
manifest = load_dataset("parquet", data_files="manifest.parquet", split="train")
```"""


def _describe_origin(dataset: Dataset) -> str:
    """Return the section on models and on changes since the previous version."""
    models = [
        line
        for role, model in dataset.lineage.get("models", {}).items()
        for line in (
            f"- {role.replace('_', ' ')}: sha256 `{model['digest']}`",
            *map(_describe_lora, model.get("loras", ())),
        )
    ]
    changes = dataset.changes
    history = (
        f"Since {changes.previous}: {changes.added} added, {changes.removed} removed, {changes.changed} changed."
        if changes.previous
        else "The first version."
    )

    return "\n".join(
        [
            "## Origin",
            "",
            f"Made by Tailforge from the recipe in `dataset.json`{' with these models' if models else ''}:",
            "",
            *models,
            *_list_images(dataset),
            "",
            *_describe_photographs(dataset),
            *_describe_inversion(dataset),
            history,
        ]
    )


def _list_images(dataset: Dataset) -> list[str]:
    """Return a line per kind of images that an engine read, with their digest."""
    images = dataset.lineage.get("images", {})
    return [f"- images of {place}: sha256 `{digest}`" for place, digest in images.items()]


def _describe_lora(lora: Mapping[str, Any]) -> str:
    """Return the line of a LoRA file under its generator."""
    licence = f"licence {lora['license']} by its card" if lora.get("license") else "its card states no licence"
    return f"  - LoRA `{lora['file']}`, weight {lora['weight']:g}: sha256 `{lora['digest']}`; {licence}"


def _describe_generator(dataset: Dataset) -> list[str]:
    """Return the section on the generator's training; empty without a record."""
    if dataset.generator_training is None:
        return []
    sentences = (f"- {sentence}" for sentence in describe_training(dataset.generator_training))
    return ["\n".join(["## Generator", "", "The generator's record of its training:", "", *sentences])]


def _describe_photographs(dataset: Dataset) -> list[str]:
    """Return the licences of the photographs that the images come from; empty without any."""
    licences = [(use, describe_licence(licence)) for use, licence in dataset.photographs.items()]
    rows = [f"- {use}: {each.name}" + (f" ({each.url})" if each.url else "") for use, each in licences]
    return ["Photographs that the images come from, by their use, and their licences:", "", *rows, ""] if rows else []


def _describe_inversion(dataset: Dataset) -> list[str]:
    """Return the figures of a classifier on images from its own weights; empty for other engines."""
    found = dataset.lineage.get("inversion")
    if not found:
        return []
    return [
        "The images were synthesised from the weights of the generator, a trained classifier, by NaturalInversion "
        f"(arXiv 2306.16661). The classifier agrees with the label of {100 * found['agreed']:.1f} % of the accepted "
        f"images ({100 * found['agreed_before']:.1f} % before rounding to 8 bits), with mean probability "
        f"{found['probability']:.3f}. Mean losses of their batches: cross-entropy {found['cross_entropy']:.3g}, "
        f"BatchNorm statistics {found['statistics']:.3g}. The agreement was the goal of the synthesis, so it does not "
        "show how natural the images are.",
        "",
    ]
