"""List the arms of an evaluation: ways to choose training images, all at equal steps, batches and images seen."""

from collections.abc import Sequence

from tailforge.schemas.documents.worth import MIXED
from tailforge.schemas.evaluation import Arm, Augmentation, EvaluationSettings
from tailforge.tasks.methods.evaluation.augmentations import draw_augmentations

REAL, BALANCED, AUGMENTED, COPIES = "real", "balanced", "augmented", "copies"
REAL_ARMS = (REAL, BALANCED, AUGMENTED, COPIES)
ALONE, AGAINST = "alone", "against "
CURVE = "curve"  # the best real arm with other numbers of images of rare classes


def list_plain_arms() -> list[Arm]:
    """Return the arms of real images alone with the default augmentation."""
    return [
        Arm(name=REAL, sampling="natural", adjusted=False),
        Arm(name=BALANCED),
        Arm(name=COPIES, sampling="copies", adjusted=False),
    ]


def list_augmented_arms(settings: EvaluationSettings) -> list[Arm]:
    """Return the arm `augmented` at every augmentation of the search: the default one, and random ones."""
    drawn = draw_augmentations(settings.augmentations, settings.first_seed)
    return [Arm(name=AUGMENTED, augmentation=each) for each in (Augmentation(), *drawn)]


def list_version_arms(
    settings: EvaluationSettings, version: str, rivals: Sequence[str], augmentation: Augmentation
) -> list[Arm]:
    """Return the arms with a version's images at every share, all with one augmentation.

    `version` and `rivals` are names of versions. `augmentation`: the best one for real images alone, so that no arm
    has an advantage by it.
    """

    def list_shares(name: str, source: str) -> list[Arm]:
        return [Arm(name=name, source=source, share=share, augmentation=augmentation) for share in settings.shares]

    # The version beside the real images and without them, then its rivals beside the real images.
    arms = list_shares(MIXED, version)
    arms.append(Arm(name=ALONE, source=version, real=False, augmentation=augmentation))
    return arms + [arm for rival in rivals for arm in list_shares(AGAINST + rival, rival)]
