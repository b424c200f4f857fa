"""A toy stage in one file: per concept one colour, which the images of an engine may take."""

import pyarrow as pa

from tailforge.schemas.jobs import PartitionJob
from tailforge.tasks.artifacts.contract import Address, Made
from tailforge.tasks.artifacts.stage import Stage, Workplace

COLOURS = pa.schema([("concept", pa.string()), ("red", pa.uint8())])


def locate(job: PartitionJob) -> Address:
    """Return the address of a concept's colour."""
    return Address(STAGE, part=0, label=f"colour of {job.concept}", settings={"concept": job.concept}, inputs={})


def produce(_: Workplace, job: PartitionJob) -> Made:
    """Return the colour of a concept: the length of its name, times ten."""
    return Made(pa.Table.from_pylist([{"concept": job.concept, "red": 10 * len(job.concept)}], COLOURS))


STAGE = Stage(name="colours", version="1", schema=COLOURS, locate=locate, produce=produce)
