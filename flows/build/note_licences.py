"""Say that a version would state a licence, although that of its photographs is unknown."""

from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.settings.licences import UNKNOWN, USES, describe_licence


def note_licences(context: BuildContext) -> list[str]:
    """Return one line if the licence of photographs is unknown; empty without any such photographs."""
    unknown = [use for use, licence in context.licences.items() if licence == UNKNOWN]
    if not unknown:
        return []
    keys = dict.fromkeys(USES.get(use, "images.license of that training") for use in unknown)
    own = describe_licence(context.recipe.license).name
    return [
        f"the licence of the photographs is unknown ({', '.join(unknown)}), and the version states {own} for its own "
        f"images: look whether it may, and set {', '.join(keys)}"
    ]
