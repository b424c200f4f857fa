"""All errors that the project raises on purpose.

TailforgeError              exit 1: something failed; a rerun continues where it stopped
├── UserError               exit 2: the user can correct it; never retried
│   ├── RecipeError         a recipe (or a training recipe) that cannot be built as written
│   ├── ModelError          a model directory or hub model that is missing, corrupt or of the wrong kind
│   ├── PictureError        bytes of a picture that cannot be decoded; callers add the picture's name
│   ├── ImagesError         labelled images that are unfit for training or measuring
│   ├── ExplanationError    an impossible request to explain an image: unknown layer, region off the image, no solution
│   ├── ReadingError        an impossible request to read a version: filter, rank, cache, state of another reader
│   ├── NotFoundError       a dataset, version, sample or stage that does not exist
│   ├── MissingExtraError   a missing library that an extra installs
│   ├── StoreAccessError    a store that cannot be opened or written at all
│   └── VerificationError   a damaged version, or a folder that is no version: its bytes differ from its own records
├── StoreError              a failed read or write (lost connection); retried
├── StoreFullError          no space left; never retried, since only the user can make room
├── DamagedArtifactError    a finished partition with unreadable bytes; the next run makes it again
├── EngineError             the generator failed on a whole partition
├── QuotaError              concepts have fewer images than requested, and the recipe refuses such versions
├── RoundLimitError         a further round would cost more than the recipe allows
├── LimitReachedError       exit 3: a build used up what its command allows; the same command goes on
├── HubError            the Hugging Face Hub could not be reached or failed; a rerun goes on
├── OrchestrationError      no Prefect server or Ray cluster could be reached or started
├── DeviceError             a device that another build or process still uses
├── WorkerLostError         worker processes died repeatedly and finished nothing in between
└── TrainingError           a training run that cannot continue (diverged, checkpoint of another recipe)

A message names the problem, the value found and a remedy, with the file, field or sample.
"""


class TailforgeError(Exception):
    """Base of all errors that the project raises on purpose. `exit_code`: exit code of the command."""

    exit_code = 1


class UserError(TailforgeError):
    """The user's request cannot be fulfilled as written."""

    exit_code = 2


class RecipeError(UserError):
    """The recipe is wrong: unknown key, impossible value, missing reference file, concept without prompts."""


class ModelError(UserError):
    """A model directory or hub id cannot be used: missing or corrupt file, wrong class, unpinned revision."""


class ImagesError(UserError):
    """Labelled images cannot be used: unreadable file, missing column, unknown class, another size."""


class PictureError(UserError):
    """The bytes of a picture cannot be decoded. The message is a reason, to which callers add the picture's place."""


class ExplanationError(UserError):
    """An image cannot be explained as requested: unknown layer, region off the image, unmet demands."""


class ReadingError(UserError):
    """A version cannot be read as requested: invalid filter, impossible rank, state of another reader."""


class NotFoundError(UserError):
    """The named dataset, version, sample, stage or recipe does not exist."""


class MissingExtraError(UserError):
    """A needed library is not installed. The message names the extra that installs it."""


class StoreAccessError(UserError):
    """The store cannot be opened or written at all: wrong address, no permission."""


class VerificationError(UserError):
    """A version is damaged or hostile: its bytes differ from its own records, or its records are impossible.

    Another attempt would fail in the same way, so it counts as bad input and is never retried.
    """


class StoreError(TailforgeError):
    """A read or write of the store failed: lost connection, vanished file. Tasks retry it."""


class StoreFullError(TailforgeError):
    """The store has no space left. Finished work stays; the same command continues when there is room."""


class DamagedArtifactError(TailforgeError):
    """A finished partition's file is gone or damaged. Its receipt is removed, so the next run makes it again."""


class EngineError(TailforgeError):
    """The generator failed for a whole partition, for example out of memory with a batch of one."""


class QuotaError(TailforgeError):
    """Concepts lack accepted images after the last round, and the recipe has `on_shortfall: fail`."""


class RoundLimitError(TailforgeError):
    """A further round would cost more than the recipe's `quality.round_limit` allows. Finished work stays."""


class LimitReachedError(TailforgeError):
    """A build stopped at a limit of its command (--max-cost, --max-hours, --max-images). Finished work stays."""

    exit_code = 3


class HubError(TailforgeError):
    """The Hugging Face Hub could not be reached, or failed. What was transferred stays."""


class OrchestrationError(TailforgeError):
    """No Prefect server or Ray cluster could be reached or started."""


class DeviceError(TailforgeError):
    """Another build or process uses the requested device, or all devices."""


class WorkerLostError(TailforgeError):
    """Workers died several times in a row and finished nothing in between. Earlier finished work stays."""


class TrainingError(TailforgeError):
    """A training run cannot continue: the loss is not finite, or the checkpoint belongs to another recipe."""
