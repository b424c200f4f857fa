"""Detect and hide credentials in addresses. The project never uses, stores or shows an address that holds any."""

import re

# Both patterns need linear time on any text, since strangers may write the text.
_WORD = re.compile(r"[^\s'\"]+")
_SCHEME = re.compile(r"(?<=[\w+.-]):/{1,2}")
HIDDEN = "***"


def hide_secrets(text: str) -> str:
    """Return the text with the users, passwords and queries of all addresses replaced by stars."""
    if ":/" not in text:
        return text
    return _WORD.sub(lambda word: _hide_query(_hide_user(word[0])), text)


def holds_secret(address: str) -> bool:
    """Return whether an address has a user, a password or a query. Each of them may be a secret."""
    return hide_secrets(address) != address


def _hide_user(word: str) -> str:
    """Replace user:password@ of an address, also of a chained one (simplecache::http://...)."""
    if (scheme := _SCHEME.search(word)) is None:
        return word
    rest = word[scheme.end() :]

    # A password may contain @ and /, a user alone contains neither.
    first, last = rest.find("@", 0, -1), rest.rfind("@", 0, -1)
    if last >= 0 and ":" in rest[:last]:
        end = last
    elif first >= 0 and "/" not in rest[:first]:
        end = first
    else:
        return word
    return f"{word[: scheme.end()]}{HIDDEN}{rest[end:]}"


def _hide_query(word: str) -> str:
    """Replace the query of an address."""
    if (scheme := _SCHEME.search(word)) is None:
        return word
    query = word.find("?", scheme.end() + 1, -1)
    return word if query < 0 else f"{word[: query + 1]}{HIDDEN}"
