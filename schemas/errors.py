"""Every error that the project raises on purpose.

TailforgeError              exit 1: something failed; a rerun continues where it stopped
├── UserError               exit 2: the user can mend it; never retried
│   ├── RecipeError         a recipe (or a training recipe) that cannot be built as written
│   ├── ModelError          a model directory or hub model that is missing, corrupt or of the wrong kind
│   ├── PictureError        the bytes of a picture that cannot be decoded; who reads them says whose they are
│   ├── ImagesError         labelled images that cannot be trained on or measured with
│   ├── ExplanationError    an image that cannot be explained as asked: unknown layer, region off the image, no solution
│   ├── ReadingError        a version that cannot be read as asked: filter, rank, cache, state of another reader
│   ├── NotFoundError       a dataset, version, sample or stage that does not exist
│   ├── MissingExtraError   a library that is not installed and comes with an extra
│   ├── StoreAccessError    a store that cannot be opened or written at all
│   └── VerificationError   a version that is damaged, or that was never one: its bytes differ from its own records
├── StoreError              a read or write that failed on the way (lost connection); retried
├── StoreFullError          no space left; never retried, since only the user can make room
├── DamagedArtifactError    a finished partition whose bytes cannot be read; the next run makes it again
├── EngineError             the generator failed on a whole partition
├── QuotaError              concepts fell short of their wanted counts and the recipe asks to fail then
├── OrchestrationError      no Prefect server or Ray cluster could be reached or started
├── DeviceError             a device that another build or process still uses
├── WorkerLostError         worker processes died again and again with nothing finished in between
└── TrainingError           a training run that cannot go on (diverged, foreign checkpoint)

A message says what is wrong, what was found and what to do, and names the file, field or sample.
"""


class TailforgeError(Exception):
    """Base of every error raised on purpose; `exit_code` is what the command returns."""

    exit_code = 1


class UserError(TailforgeError):
    """The user asked for something that cannot be done as written."""

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
    """An image cannot be explained as asked: unknown layer, region off the image, demands that are not met."""


class ReadingError(UserError):
    """A version cannot be read as asked: filter without an answer, impossible rank, state of another reader."""


class NotFoundError(UserError):
    """The named dataset, version, sample, stage or recipe does not exist."""


class MissingExtraError(UserError):
    """A library that this needs is not installed; the message names the extra that brings it."""


class StoreAccessError(UserError):
    """The store cannot be opened or written at all: wrong address, no permission."""


class VerificationError(UserError):
    """A version handed in is damaged or hostile: its bytes do not match its own records, or these say what cannot be.

    Reading it again changes nothing, so it is bad input and never retried.
    """


class StoreError(TailforgeError):
    """A read or write of the store failed on the way: lost connection, vanished file. Retried by tasks."""


class StoreFullError(TailforgeError):
    """The store has no space left. Finished work is kept; the same command continues when there is room."""


class DamagedArtifactError(TailforgeError):
    """A finished partition's file is gone or damaged. Its receipt was removed, so that the next run makes it again."""


class EngineError(TailforgeError):
    """The generator failed for a whole partition, for example out of memory with a batch of one."""


class QuotaError(TailforgeError):
    """Concepts are short of accepted images after the last round, and the recipe says `on_shortfall: fail`."""


class RoundLimitError(TailforgeError):
    """A further round would cost more than the recipe's `quality.round_limit` allows. Finished work is kept."""


class OrchestrationError(TailforgeError):
    """No Prefect server or Ray cluster could be reached or started."""


class DeviceError(TailforgeError):
    """A device that was asked for, or every device, is used by another build or process."""


class WorkerLostError(TailforgeError):
    """Workers died several times in a row before anything more was finished. Finished work is kept."""


class TrainingError(TailforgeError):
    """A training run cannot go on: the loss is not finite, or the checkpoint belongs to another recipe."""
