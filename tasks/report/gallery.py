"""Group the pictures of the gallery by concept, with the reference photographs beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.gates import SCORES
from tailforge.tasks.report.histograms import show_number
from tailforge.tasks.report.outcomes import ConceptRow
from tailforge.tasks.report.references import ReferenceRow
from tailforge.tasks.report.tiles import Tile
from tailforge.tasks.report.weakest import Weak


@dataclass(frozen=True)
class Group:
    """The pictures of one concept. `references` is None for a concept without photographs."""

    row: ConceptRow
    tiles: tuple[Tile, ...]
    references: ReferenceRow | None


@dataclass(frozen=True)
class WeakTile:
    """A picture of the weakest accepted images, with its score and gate in words."""

    tile: Tile
    note: str


def group_tiles(rows: Sequence[ConceptRow], tiles: Sequence[Tile], references: Sequence[ReferenceRow]) -> list[Group]:
    """Return one group per concept with a picture or a photograph, in the recipe's order."""
    photographs = {each.concept: each for each in references}
    groups = [
        Group(row, tuple(tile for tile in tiles if tile.concept == row.name), photographs.get(row.name)) for row in rows
    ]
    return [group for group in groups if group.tiles or group.references]


def note_weakest(recipe: Recipe, weakest: Sequence[Weak], tiles: Mapping[str, Tile]) -> list[WeakTile]:
    """Return the weakest images with a picture. `tiles`: by sample id."""
    return [WeakTile(tiles[each.sample_id], _note(recipe, each)) for each in weakest if each.sample_id in tiles]


def _note(recipe: Recipe, weak: Weak) -> str:
    gate = f"gate {show_number(weak.bound)}" if weak.score in recipe.quality.gates else "no gate"
    return f"{SCORES[weak.score].title} {show_number(weak.value)}, {gate}"
