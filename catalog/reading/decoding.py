"""Decode the members of published samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tailforge.catalog.pictures import PNG, PUBLISHED, open_picture, to_mask, to_rgb
from tailforge.catalog.reading.arrays import read_array
from tailforge.catalog.reading.batches import SampleDict
from tailforge.catalog.reading.samples import AGAIN, Sample
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.errors import PictureError, VerificationError


def decode_sample(sample: Mapping[str, Any], *, decode: bool = True) -> dict[str, Any]:
    """Return the sample of a `ShardedDataset` from webdataset's bytes by field.

    `decode`: False keeps image and mask as bytes. Errors: KeyError for a missing field; PictureError or ValueError for
    a field that cannot be decoded.
    """
    kind = "png" if "png" in sample else "jpg"
    image, mask = sample[kind], sample["seg.png"]
    decoded = SampleDict(
        key=sample["__key__"],
        image=open_picture(image, PUBLISHED[kind], to_rgb) if decode else image,
        mask=open_picture(mask, PNG, to_mask) if decode else mask,
        caption=sample["txt"].decode(),
        cls=int(sample["cls"]),
        json=parse_object(sample["json"]),
    )

    for field, name in (("attn.npy", "attention"), ("noise.npy", "noise")):
        if field in sample:
            decoded[name] = read_array(sample[field])
    return decoded


@dataclass(frozen=True)
class Decoder:
    """Decodes samples of a version with `classes` classes. `decode`: False keeps images and masks as bytes."""

    classes: int
    decode: bool

    def __call__(self, origin: str, key: str, members: Sample) -> dict[str, Any]:
        """Decode and check a sample of the shard `origin`. Errors: VerificationError."""
        try:
            decoded = decode_sample({"__key__": key, **members}, decode=self.decode)
            if not 0 <= decoded["cls"] < self.classes:
                raise ValueError(f"its class is {decoded['cls']}, and there are {self.classes}")
        except (KeyError, ValueError, PictureError) as error:
            raise VerificationError(
                f"{origin}: sample {key} cannot be decoded: {describe_damage(error)}; {AGAIN}"
            ) from error
        return decoded
