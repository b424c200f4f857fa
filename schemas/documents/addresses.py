"""Credentials in addresses: no address that holds some is used, kept or shown."""

import re

# Both patterns take time in proportion to the text, whatever the text is: it may be anybody's.
_WORD = re.compile(r"[^\s'\"]+")
_SCHEME = re.compile(r"(?<=[\w+.-]):/{1,2}")
HIDDEN = "***"


def hide_secrets(text: str) -> str:
    """The text with what addresses in it hold before an @ and behind a ? replaced by stars."""
    if ":/" not in text:
        return text
    return _WORD.sub(lambda word: _hide_query(_hide_user(word[0])), text)


def holds_secret(address: str) -> bool:
    """Whether an address has a user, a password or a query, each of which may be a secret."""
    return hide_secrets(address) != address


def _hide_user(word: str) -> str:
    """Without user:password@ of an address, whatever it is chained with (simplecache::http://...)."""
    if (scheme := _SCHEME.search(word)) is None:
        return word
    rest = word[scheme.end() :]
    first, last = rest.find("@", 0, -1), rest.rfind("@", 0, -1)
    if last >= 0 and ":" in rest[:last]:
        end = last
    elif first >= 0 and "/" not in rest[:first]:
        end = first
    else:
        return word
    return f"{word[: scheme.end()]}{HIDDEN}{rest[end:]}"


def _hide_query(word: str) -> str:
    """Without the values of an address's query."""
    if (scheme := _SCHEME.search(word)) is None:
        return word
    query = word.find("?", scheme.end() + 1, -1)
    return word if query < 0 else f"{word[: query + 1]}{HIDDEN}"
