"""Make one published image again and compare it with the published bytes."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from tailforge.catalog.user_paths import usable_path
from tailforge.flows.samples.explain import mend_again
from tailforge.flows.samples.remake import Published, find_published, remake_sample
from tailforge.schemas.errors import EngineError, NotFoundError
from tailforge.schemas.jobs import PartitionJob
from tailforge.tasks.methods.packing.members import finish_image
from tailforge.tasks.stages.work.augmented import augment_partition
from tailforge.tasks.stages.work.masks import annotate_partition
from tailforge.tasks.stages.work.samples import tabulate


def regenerate_sample(
    sample_id: str,
    reference: str,
    uri: str,
    out: Path,
    folder: Path | None = None,
    teacher_module: str | None = None,
) -> dict[str, Any]:
    """Make the image of `sample_id` again and write it to `out`. `reference`: dataset or dataset@version.

    `folder`: start of the recipe's relative paths, by default `recipe_home`; `teacher_module`: the user's own torch
    module
    (package.module:callable) of the teacher.

    Returns {"file", "equal"}; `equal` is True if the bytes equal the published bytes. They do on the same class of
    machine
    with the same library versions. Errors: NotFoundError for an unknown sample; ModelError for another generator
    than the
    version's; EngineError if the sample fails now.
    """
    out = _usable_file(out)
    found = find_published(sample_id, reference, uri)
    job, made = remake_sample(found, folder, teacher_module)
    if made.error:
        raise EngineError(f"sample {sample_id} fails now: {made.error}; compare library versions with its version's")

    samples = tabulate(job, made) if found.repair is None else mend_again(found, job, made)
    image = _encode_image(found, job, samples)
    out.write_bytes(image)
    return {"file": str(out), "equal": found.is_published(job.build.recipe.sharding.image_format, image)}


def _usable_file(out: Path) -> Path:
    """Return the path of a file that can be written. Errors: NotFoundError for a folder or a missing parent."""
    out = usable_path(out, "--out")
    if not out.parent.is_dir():
        raise NotFoundError(f"--out {out}: the folder {out.parent} does not exist; make it first")
    if out.is_dir():
        raise NotFoundError(f"--out {out}: this is a folder; give the name of a file in it")
    return out


def _encode_image(found: Published, job: PartitionJob, samples: pa.Table) -> bytes:
    """Return the bytes of the sample's image member, augmented if the sample was."""
    recipe, image = job.build.recipe, samples["image"][0].as_py()
    if found.row["augmentation"] is not None:
        augmented = augment_partition(job, samples, annotate_partition(job, samples).table).to_pylist()
        image = next(copy["image"] for copy in augmented if copy["sample_id"] == found.row["sample_id"])
    return finish_image(image, recipe.sharding, recipe.engine.digital_source_type)
