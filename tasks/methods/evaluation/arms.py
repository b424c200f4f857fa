"""List the arms of an evaluation: ways to choose training images, all at equal steps, batches and images seen."""

from collections.abc import Sequence

from tailforge.schemas.evaluation import Arm, Augmentation, EvaluationSettings
from tailforge.tasks.methods.evaluation.augmentations import draw_augmentations

REAL, BALANCED, AUGMENTED, COPIES = "real", "balanced", "augmented", "copies"
REAL_ARMS = (REAL, BALANCED, AUGMENTED, COPIES)
MIXED, ALONE, AGAINST = "mixed", "alone", "against "


def list_arms(settings: EvaluationSettings, version: str, rivals: Sequence[str]) -> list[Arm]:
    """Return every arm at every setting. `version` and `rivals` are names of versions."""
    # Real images alone, with the usual remedies for rare classes.
    arms = [
        Arm(name=REAL, sampling="natural", adjusted=False),
        Arm(name=BALANCED),
        *(Arm(name=AUGMENTED, augmentation=each) for each in search_augmentations(settings)),
        Arm(name=COPIES, sampling="copies", adjusted=False),
    ]

    # The version beside the real images at several shares, and without them. Rivals compete with the first.
    arms += [Arm(name=MIXED, source=version, share=share) for share in settings.shares]
    arms.append(Arm(name=ALONE, source=version, real=False))
    arms += [Arm(name=AGAINST + rival, source=rival, share=share) for rival in rivals for share in settings.shares]
    return arms


def search_augmentations(settings: EvaluationSettings) -> list[Augmentation]:
    """Return the augmentations that the random search tries."""
    return draw_augmentations(settings.augmentations, settings.first_seed)
