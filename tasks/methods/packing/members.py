"""Make the members and manifest columns of published samples from the tables of the stages.

Readers infer the types of a whole dataset from its first samples. So every sample has the same members, and its JSON
has the same keys and types and no null. Every image declares its source by a term of the IPTC standard, in the XMP
property Iptc4xmpExt:DigitalSourceType: a trained model, or a composite with one. In a PNG the property is an iTXt chunk
after the header; the pixels' bytes stay.
"""

import io
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog import pictures
from tailforge.catalog.pictures import PNG, open_picture, to_rgb
from tailforge.schemas.settings.engine_settings import EngineSettings
from tailforge.schemas.settings.output import Sharding
from tailforge.schemas.tables import IMAGE_SCORES, MANIFEST, MASK_SCORES, REJECTS, SHAPE_SCORES

DIGITAL_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
TRAINED = EngineSettings.digital_source_type
PNG_HEADER_BYTES = 33  # signature and IHDR

JUDGED = [name for name, _ in IMAGE_SCORES] + ["phash"]
SOFT_SCORES = [name for name, _ in MASK_SCORES if name not in SHAPE_SCORES]
MEASURED = [*(name for name, _ in MASK_SCORES), "mask_source"]
# Columns of the stages' tables that write_shards and publish_version read.
SAMPLE_COLUMNS = [
    "sample_id", "concept", "prompt_index", "replica", "attempt", "seed", "prompt", "slots",
    "engine", "provenance", "width", "height", "status", "error",
]  # fmt: skip
MASK_COLUMNS = ["instances", *MEASURED, "status", "error"]
VERDICT_COLUMNS = [*JUDGED, "status", "error"]
AUGMENTED_COLUMNS = [
    "sample_id", "parent_id", "width", "height", "instances", *SHAPE_SCORES, "augmentation", *JUDGED,
]  # fmt: skip
PUBLISHED = pa.schema([field for field in MANIFEST if field.name not in ("split", "shard", "members")])


@cache
def write_xmp(source_type: str) -> bytes:
    """Return the XMP packet of an image with this digital source type."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'Iptc4xmpExt:DigitalSourceType="{DIGITAL_SOURCE_TYPES}{source_type}"/></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="r"?>'
    ).encode()


def mark_png(png: bytes, source_type: str = TRAINED) -> bytes:
    """Return the PNG with an XMP packet that names its digital source type."""
    # A chunk: length, type, keyword with empty fields, text, checksum.
    text = b"iTXt" + b"XML:com.adobe.xmp\x00" + bytes(4) + write_xmp(source_type)
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    return png[:PNG_HEADER_BYTES] + chunk + png[PNG_HEADER_BYTES:]


def encode_jpeg(png: bytes, quality: int, source_type: str = TRAINED) -> bytes:
    """Encode a PNG as JPEG with the same XMP packet. Errors: PictureError if the bytes are no PNG."""
    out = io.BytesIO()
    open_picture(png, PNG, to_rgb).save(out, "JPEG", quality=quality, xmp=write_xmp(source_type))
    return out.getvalue()


def finish_image(png: bytes, sharding: Sharding, source_type: str) -> bytes:
    """Return an image as the version publishes it. Errors: PictureError if the bytes are no PNG."""
    if sharding.image_format == "png":
        return mark_png(png, source_type)
    return encode_jpeg(png, sharding.jpeg_quality, source_type)


def decode_published(png: bytes, sharding: Sharding) -> NDArray[np.uint8]:
    """Return an image's pixels [height, width, 3] as readers of the dataset see them. Errors: PictureError."""
    # JPEG changes the pixels.
    data = png if sharding.image_format == "png" else encode_jpeg(png, sharding.jpeg_quality)
    return np.asarray(open_picture(data, pictures.PUBLISHED[sharding.image_format], to_rgb))


@cache
def encode_empty_mask(width: int, height: int) -> bytes:
    """Return an indexed PNG of background only, for a sample without a mask; sizes in pixels."""
    out = io.BytesIO()
    Image.new("P", (width, height)).save(out, "PNG")
    return out.getvalue()


def publish_columns(
    samples: pa.Table,
    masks: pa.Table,
    verdicts: pa.Table,
    classes: Mapping[str, int],
    augmented: pa.Table | None = None,
    source_type: str = TRAINED,
) -> pa.Table:
    """Return the columns that manifest and rejects share (PUBLISHED), for row-aligned tables of the same samples.

    `augmented` is row-aligned as well; a null `sample_id` means that the row is not augmented. An augmented mask has
    scores of its shape. The scores that need its soft map are null.
    """
    # Columns of the stages' tables, and constants.
    concepts = samples["concept"]
    columns: dict[str, Any] = {
        **{name: samples[name] for name in SAMPLE_COLUMNS if name not in ("prompt", "status", "error")},
        **{name: verdicts[name] for name in JUDGED},
        **{name: masks[name] for name in ("instances", *MEASURED)},
        "caption": samples["prompt"],
        "class_id": pa.array([classes[name] for name in concepts.to_pylist()], pa.int32()),
        "digital_source_type": pa.repeat(f"{DIGITAL_SOURCE_TYPES}{source_type}", samples.num_rows),
        "parent_id": pa.nulls(samples.num_rows, pa.string()),
        "augmentation": pa.nulls(samples.num_rows, pa.string()),
    }

    # Augmentation replaces some values.
    if augmented is not None:
        columns.update(_augment_columns(columns, augmented))
    return pa.table({name: columns[name] for name in PUBLISHED.names}).cast(PUBLISHED)


def _augment_columns(columns: Mapping[str, Any], augmented: pa.Table) -> dict[str, Any]:
    """Return the columns that augmentation changes. An image augmented in place keeps its id and has no parent."""
    # The augmented value, or the sample's own.
    is_augmented = pc.is_valid(augmented["sample_id"])
    is_copy = pc.and_kleene(is_augmented, pc.not_equal(augmented["sample_id"], augmented["parent_id"]))
    changed = {
        name: pc.if_else(is_augmented, augmented[name], columns[name])
        for name in ("sample_id", "width", "height", "instances", *SHAPE_SCORES, "augmentation", *JUDGED)
    }
    changed |= {name: pc.if_else(is_augmented, None, columns[name]) for name in SOFT_SCORES}

    # Only a copy has a parent.
    changed["parent_id"] = pc.if_else(pc.fill_null(is_copy, False), augmented["parent_id"], None)
    return changed


def reject_rows(published: pa.Table, outcomes: Sequence[pa.Table], reasons: Sequence[str | None]) -> pa.Table:
    """Return rows of REJECTS. `outcomes`: the stages' tables in order; the first failure is the row's error."""
    # Later stages first, so that the earliest failure overwrites the others.
    status, error = pa.repeat("ok", published.num_rows), pa.nulls(published.num_rows, pa.string())
    for table in reversed(outcomes):
        failed = pc.equal(table["status"], "failed")
        status, error = pc.if_else(failed, "failed", status), pc.if_else(failed, table["error"], error)

    columns = {**{name: published[name] for name in PUBLISHED.names}, "status": status, "error": error}
    columns["reason"] = pa.array(reasons, pa.string())
    return pa.table({name: columns[name] for name in REJECTS.names}).cast(REJECTS)


def encode_annotations(published: pa.Table) -> list[bytes]:
    """Return the annotations of every row as canonical JSON: classes, instances, caption, slots and origin."""
    # Canonical: sorted keys, no spaces.
    names = ["sample_id", "concept", "class_id", "caption", "slots", "seed", "width", "height", "instances"]
    columns = [published[name].to_pylist() for name in names]
    parents = published["parent_id"].to_pylist()
    encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode

    # Missing values become empty ones, and floats are rounded.
    documents = []
    for parent, *values in zip(parents, *columns, strict=True):
        document = dict(zip(names, values, strict=True))
        document["parent_id"] = parent or ""
        for instance in document["instances"] or ():
            instance["bbox"] = [round(number, 3) for number in instance["bbox"]]
            instance["score"] = round(instance["score"], 6)
        document["instances"] = document["instances"] or []
        documents.append(encode(document).encode())
    return documents
