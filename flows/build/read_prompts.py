"""Find the prompts and captions that the generator's text encoder reads, before a build or training starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import BuildContext, Prompt, ResolvedModel
from tailforge.schemas.training.generator import LearningSettings
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.images.captioned import CaptionedImages
from tailforge.tasks.models.text_readers import TextReader, load_readers, reads_all, reads_concept

NAMED, SHOWN = 3, 80  # prompts in a message, and characters of each


@dataclass(frozen=True)
class ReadablePrompts:
    """The prompts of a build, sorted by how much the generator's text encoder reads of them.

    `prompts`: prompts to draw, by concept. `unread`: prompts to leave out, because their concept is cut off. `cut`:
    prompts to draw whose end is cut off behind the concept. `notes`: the same for a person.
    """

    prompts: dict[str, list[Prompt]]
    unread: dict[str, list[str]]
    cut: list[str]
    notes: list[str]

    @property
    def unread_counts(self) -> dict[str, int]:
        """Return the number of unread prompts by concept, without concepts that have none."""
        return {concept: len(texts) for concept, texts in self.unread.items() if texts}


def filter_readable(context: BuildContext, prompts: Mapping[str, Sequence[Prompt]]) -> ReadablePrompts:
    """Return the prompts of a build whose concept the generator reads. An inverted classifier reads none: all stay.

    Errors: RecipeError for a concept without such a prompt; ModelError for a tokenizer that cannot be loaded.
    """
    readers = engine_of(context.recipe).load_readers(context)
    readable = {name: [each for each in own if reads_concept(readers, each)] for name, own in prompts.items()}
    kept = {name: {each.prompt_index for each in own} for name, own in readable.items()}
    unread = {name: [each.text for each in own if each.prompt_index not in kept[name]] for name, own in prompts.items()}

    for name, own in readable.items():
        if not own:
            raise RecipeError(
                f"concept {name!r}: {_limit(readers)}, and the word for it is cut off in all of its prompts "
                f"({len(unread[name]):,}), such as {_shorten(unread[name][0])}; put {{concept}} nearer to the start of "
                "the templates, or shorten them"
            )

    cut = [each.text for own in readable.values() for each in own if not reads_all(readers, each.text)]
    lost = [text for texts in unread.values() for text in texts]
    notes = [*_note_long(readers, lost, cut), *_note_negative(context, readers)]
    return ReadablePrompts(readable, unread, cut, notes)


def _note_long(readers: Sequence[TextReader], lost: Sequence[str], cut: Sequence[str]) -> list[str]:
    """Return the notes on prompts that lose their concept, and on prompts that lose only their end."""
    notes = []
    if lost:
        notes.append(
            f"{count_of(len(lost), 'prompt')} too long: {_limit(readers)}, and the concept is cut off, so none of them "
            f"is drawn: {_name(lost)}"
        )
    if cut:
        notes.append(f"{count_of(len(cut), 'prompt')} too long: {_limit(readers)}; the end is not drawn: {_name(cut)}")
    return notes


def note_captions(learning: LearningSettings, model: ResolvedModel, images: CaptionedImages) -> list[str]:
    """Return notes on captions that are cut and on classes that are missing. Errors: as `note_cut_captions`."""
    notes = [note_cut_captions(model, images.captions)]
    if learning.balance == "class" and not any(images.classes):
        notes.append(f"learning.balance: class has no effect: {images.origin} has no classes")
    return [note for note in notes if note]


def note_cut_captions(model: ResolvedModel, captions: Sequence[str]) -> str:
    """Return a note on the captions that a generator's text encoder does not read to the end; empty without any.

    Errors: ModelError for a tokenizer that cannot be loaded.
    """
    readers = load_readers(model)
    long = {text for text in dict.fromkeys(captions) if not reads_all(readers, text)}
    cut = [text for text in captions if text in long]
    if not cut:
        return ""
    of_all = f"{len(cut):,} of {count_of(len(captions), 'caption')} too long"
    return f"{of_all}: {_limit(readers)}, and nothing is learnt from what stands behind: {_name(sorted(long))}"


def _note_negative(context: BuildContext, readers: Sequence[TextReader]) -> list[str]:
    """Return a note if the negative prompt is too long for the guide, or for the generator without a guide."""
    reading = load_readers(context.guide) if context.guide else readers
    if reads_all(reading, context.recipe.engine.negative_text):
        return []
    limit = max(reader.length for reader in reading)
    return [f"engine.negative_prompt is too long: its text encoder reads {limit} tokens, and the rest has no effect"]


def _limit(readers: Sequence[TextReader]) -> str:
    """Return the words for the number of tokens that the generator reads."""
    return f"the generator's text encoder reads {max(reader.length for reader in readers)} tokens"


def _name(texts: Sequence[str]) -> str:
    """Return the first texts, for a message."""
    more = f" and {len(texts) - NAMED:,} more" if len(texts) > NAMED else ""
    return ", ".join(map(_shorten, texts[:NAMED])) + more


def _shorten(text: str) -> str:
    """Return a quoted text of at most SHOWN characters."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
