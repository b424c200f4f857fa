"""Find photographs with the same bytes, reading only files that another file equals in size."""

import hashlib
import os
from collections import defaultdict

from tailforge.catalog.images.records import Images
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.under_way import count


def find_copies(images: Images) -> list[tuple[int, ...]]:
    """Return the sets of places whose files have the same bytes, each in rising order.

    Files of different sizes are never read. Photographs in tables and tars are all read, since only their bytes tell
    their size. Files that cannot be read are nobody's copy.
    """
    by_size: dict[int, list[int]] = defaultdict(list)
    for place in range(len(images)):
        file = images.file_of(place)
        by_size[-1 if file is None else _measure(file)].append(place)
    shared = sorted(place for places in by_size.values() if len(places) > 1 for place in places)

    by_content: dict[bytes, list[int]] = defaultdict(list)
    for place in count(shared, "file compared", shared):
        try:
            by_content[hashlib.sha256(images.read(place)).digest()].append(place)
        except ImagesError:
            continue
    return [tuple(places) for places in by_content.values() if len(places) > 1]


def _measure(file: str) -> int:
    """Return the bytes of a file, or a negative number for one that cannot be asked."""
    try:
        return os.stat(file).st_size
    except OSError:
        return -2
