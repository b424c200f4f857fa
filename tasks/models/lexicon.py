"""Find synonyms in Open English WordNet with the `wn` package.

The user installs the data, because no package contains it and a build downloads nothing unasked.
"""

from collections.abc import Callable

import wn

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.settings.prompts import WORDNET
from tailforge.tasks.models.cache import load_once


def load_wordnet() -> Callable[[str], list[str]]:
    """Return a function from a noun to its synonyms in the first, most usual sense; none for an unknown word.

    Errors: RecipeError with the command that installs the data.
    """
    return load_once(("wordnet", WORDNET, str(wn.config.database_path)), _load)


def _load() -> Callable[[str], list[str]]:
    wn.config.allow_multithreading = True  # tasks run in threads, and only read
    # A query without data would create an empty database in the user's home.
    if not wn.config.database_path.is_file() or not wn.lexicons(lexicon=WORDNET):
        raise RecipeError(
            f"prompts.wordnet: Open English WordNet ({WORDNET}) is not in {wn.config.database_path}; run "
            f"`python -m wn download {WORDNET}`, or set wordnet: false and list the words in prompts.lexicon"
        )
    wordnet = wn.Wordnet(WORDNET)

    def synonyms(word: str) -> list[str]:
        """Return the other words of a noun's first sense."""
        senses = [sense for entry in wordnet.words(word, pos="n") for sense in entry.senses()[:1]]
        lemmas = senses[0].synset().lemmas() if senses else []
        return [str(lemma) for lemma in lemmas if lemma.lower() != word.lower()]

    return synonyms
