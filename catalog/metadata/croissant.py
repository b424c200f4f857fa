"""croissant.json: the description of a version in Croissant 1.1 (mlcommons/croissant), for search engines."""

from collections.abc import Callable
from typing import Any

from tailforge.catalog.metadata.responsible import CONFORMS_TO as RESPONSIBLE
from tailforge.catalog.metadata.responsible import describe_responsibly
from tailforge.catalog.metadata.worth import observe_worth
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.worth import Worth
from tailforge.schemas.settings.licences import describe_licence

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
# The context of the specification, with the PROV vocabulary for lineage.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
# Described columns of the manifest. Boxes and offsets are available in the Parquet file only.
COLUMNS = (
    ("sample_id", "sc:Text", "Identity of the sample: its key in the shards."),
    ("caption", "sc:Text", "The prompt of the image."),
    ("concept", "sc:Text", "Name of the class."),
    ("class_id", "sc:Integer", "Number of the class, from 0."),
    ("split", "sc:Text", "Split of the sample."),
    ("shard", "sc:Text", "Tar of the sample, in shards/."),
    ("width", "sc:Integer", "Width of the image in pixels."),
    ("height", "sc:Integer", "Height of the image in pixels."),
    ("mask_area", "sc:Float", "Share of the mask in the image, 0 to 1."),
    ("digital_source_type", "sc:URL", "IPTC digital source type of the image."),
)
SPLITS = {"train": "TrainingSplit", "validation": "ValidationSplit", "test": "TestSplit"}
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg"}


def describe_croissant(
    dataset: Dataset, worth: Worth | None = None, address: Callable[[str], str] = str
) -> dict[str, Any]:
    """Return the JSON-LD document of a version.

    `worth`: what its newest evaluation says; None before one. `address`: returns the address of a file from its path in
    the version's folder; by default addresses are these paths.
    """
    recipe, licence = dataset.recipe, describe_licence(dataset.license)

    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [CONFORMS_TO, RESPONSIBLE],
        "name": dataset.name,
        "description": recipe["description"],
        "license": licence.address,
        "creator": {"@type": "sc:Organization", "name": recipe["creator"]},
        "url": f"./{dataset.name}/{dataset.version}/",
        "version": dataset.version,
        "datePublished": dataset.created,
        "keywords": ["synthetic", "image", *dataset.classes],
        "citeAs": f"{recipe['creator']}: {dataset.name} {dataset.version}, synthetic images",
        "prov:wasGeneratedBy": _describe_lineage(dataset),
        "subjectOf": observe_worth(dataset, worth),
        **describe_responsibly(dataset),
        "distribution": _list_files(dataset, address),
        "recordSet": [
            _describe_classes(dataset),
            _describe_splits(dataset),
            _describe_samples(),
            *map(_describe_pictures, ("images", "masks")),
        ],
    }


def _describe_lineage(dataset: Dataset) -> dict[str, Any]:
    """Return the models, the images that the engine read, and the photographs of the build as PROV entities."""
    models = sorted(dataset.lineage["models"].items())
    used = [(role, model["digest"]) for role, model in models]
    used += [(f"LoRA {lora['file']}", lora["digest"]) for _, model in models for lora in model.get("loras", ())]
    used += sorted(dataset.lineage.get("images", {}).items())
    return {
        "@type": "prov:Activity",
        "prov:used": [
            {"@type": "prov:Entity", "@id": f"urn:sha256:{digest}", "name": name}
            for name, digest in dict.fromkeys(used)
        ]
        + [
            {
                "@type": "prov:Entity",
                "name": f"photographs for {use}",
                "license": describe_licence(licence).address,
            }
            for use, licence in dataset.photographs.items()
        ],
    }


def _list_files(dataset: Dataset, address: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return the manifest, the tars, and the images and masks inside the tars."""

    def describe(path: str, media_type: str) -> dict[str, Any]:
        """Return a file with address, size and sha256."""
        return _describe_file(dataset, path, media_type) | {"contentUrl": address(path)}

    tars = [describe(f"shards/{shard.name}", "application/x-tar") for shard in dataset.shards]
    file_sets = [
        {
            "@type": "cr:FileSet",
            "@id": f"{name}-files",
            "name": f"{name}-files",
            "containedIn": [{"@id": tar["@id"]} for tar in tars],
            "encodingFormat": media_type,
            "includes": pattern,
        }
        for name, media_type, pattern in _list_pictures(dataset)
    ]

    return [describe("manifest.parquet", "application/x-parquet"), *tars, *file_sets]


def _list_pictures(dataset: Dataset) -> list[tuple[str, str, str]]:
    """Return (record set, media type, glob) of images and masks. *[0-9a-f].png excludes names such as X.seg.png."""
    image = next(field for field in dataset.fields if field in MEDIA_TYPES)
    return [("images", MEDIA_TYPES[image], f"*[0-9a-f].{image}"), ("masks", "image/png", "*.seg.png")]


def _describe_file(dataset: Dataset, path: str, media_type: str) -> dict[str, Any]:
    """Return a file with size and sha256."""
    entry = dataset.files[path]
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path.rsplit("/", 1)[-1],
        "contentSize": f"{entry.bytes} B",
        "encodingFormat": media_type,
        "sha256": entry.sha256,
    }


def _describe_classes(dataset: Dataset) -> dict[str, Any]:
    """Return the list of classes, with its data."""
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "description": "Classes; in masks the value is the class + 1, 0 is background and 255 is ignored.",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/class_id"},
        "field": [
            _describe_field("classes", "class_id", "sc:Integer", "Number of the class."),
            _describe_field("classes", "name", "sc:Text", "Name of the class."),
        ],
        "data": [{"classes/class_id": index, "classes/name": name} for index, name in enumerate(dataset.classes)],
    }


def _describe_splits(dataset: Dataset) -> dict[str, Any]:
    """Return the splits with their meaning, which a name alone does not tell (Croissant 1.1, `cr:Split`).

    `samples/split` holds these names and does not refer to this set: mlcroissant 1.1.1 then reads no images.
    """
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "Splits of the samples.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            _describe_field("splits", "name", "sc:Text", "Name of the split."),
            _describe_field("splits", "url", "sc:URL", "Meaning of the split."),
        ],
        "data": [
            {"splits/name": split, "splits/url": f"cr:{SPLITS[split]}"} if split in SPLITS else {"splits/name": split}
            for split in sorted(dataset.counts.by_split)
        ],
    }


def _describe_samples() -> dict[str, Any]:
    """Return the record set of the manifest."""
    fields = [_describe_field("samples", name, kind, text) for name, kind, text in COLUMNS]
    for field, (name, _, _) in zip(fields, COLUMNS, strict=True):
        field["source"] = {"fileObject": {"@id": "manifest.parquet"}, "extract": {"column": name}}
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One record per sample, from the manifest.",
        "key": {"@id": "samples/sample_id"},
        "field": fields,
    }


def _describe_pictures(name: str) -> dict[str, Any]:
    """Return the record set of all images or masks with their samples. Croissant treats masks as plain images."""
    # The part of the file name before the first dot is the sample's id.
    sample = _describe_field(name, "sample_id", "sc:Text", "Sample of the picture.")
    sample["source"] = {
        "fileSet": {"@id": f"{name}-files"},
        "extract": {"fileProperty": "filename"},
        "transform": {"regex": "^([^.]+)"},
    }
    sample["references"] = {"field": {"@id": "samples/sample_id"}}
    content = _describe_field(name, "content", "sc:ImageObject", "The picture.")
    content["source"] = {"fileSet": {"@id": f"{name}-files"}, "extract": {"fileProperty": "content"}}

    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"One record per sample: its {name}, from the shards.",
        "field": [sample, content],
    }


def _describe_field(record_set: str, name: str, kind: str, text: str) -> dict[str, Any]:
    """Return one field of a record set."""
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": f"{record_set}/{name}",
        "description": text,
        "dataType": kind,
    }
