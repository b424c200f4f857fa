"""Reference photographs on the report page."""

import io
import json

import pytest
from PIL import Image

from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.tasks.report.references import SHOWN_PX, Reference, draw_references, name_nearest, shrink_photograph

OWN = (Reference("a.jpg", b"A"), Reference(None), Reference("c.jpg"))


def recipe() -> Recipe:
    concepts = [{"name": name, "requested": 1} for name in ("gear", "hook")]
    return parse_recipe(
        {"name": "d", "description": "d", "seed": 1, "concepts": concepts, "generator": {"model": "catalog:x"}}, "test"
    )


def test_pictures_keep_their_numbers_and_what_is_lost_is_counted() -> None:
    files: dict[str, bytes] = {}
    (row,) = draw_references(recipe(), {"hook": (Reference(None), *OWN)}, files)
    assert (row.concept, row.count, row.lost) == ("hook", 4, 2)
    assert row.shown == ((2, "a.jpg", "references/1-2.webp"),)
    assert files == {"references/1-2.webp": b"A"}


@pytest.mark.parametrize(
    ("place", "text"),
    [(0, "#1 a.jpg, cosine 0.5"), (1, "#2, cosine 0.5"), (2, "#3 c.jpg, cosine 0.5"), (7, "#8, cosine 0.5")],
)
def test_the_nearest_is_named_by_its_file_where_that_is_known(place: int, text: str) -> None:
    assert name_nearest(json.dumps({"nearest_reference": place, "reference_cosine": 0.5}), OWN) == text


def test_what_was_not_searched_for_has_no_nearest() -> None:
    assert name_nearest(json.dumps({"seed": 1}), OWN) is name_nearest(None, OWN) is None


def test_a_small_picture_says_nothing_of_where_it_was_taken() -> None:
    image = Image.new("RGB", (800, 400), (200, 30, 30))
    exif = Image.Exif()
    exif[0x010F] = "Camera of mine"
    image.info["exif"] = exif.tobytes()
    with Image.open(io.BytesIO(shrink_photograph(image))) as small:
        assert (small.format, small.size) == ("WEBP", (SHOWN_PX, SHOWN_PX // 2))
        assert not small.getexif()
