"""Credentials in addresses: no address that holds some is used, kept or shown."""

import re

# user:password@ of an address, whatever it is chained with (simplecache::http://...), and the values of its query.
_USER = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*:/{1,2})[^\s/@'\"]*(?:[^\s'\"]*:[^\s'\"]*)?@(?=[^\s'\"])")
_QUERY = re.compile(r"(?P<address>[A-Za-z][\w+.-]*:/{1,2}[^\s?'\"]+)\?(?P<query>[^\s'\"]+)")
HIDDEN = "***"


def hide_secrets(text: str) -> str:
    """The text with what addresses in it hold before an @ and behind a ? replaced by stars."""
    if ":/" not in text:
        return text
    return _QUERY.sub(rf"\g<address>?{HIDDEN}", _USER.sub(rf"\g<scheme>{HIDDEN}@", text))


def holds_secret(address: str) -> bool:
    """Whether an address has a user, a password or a query, each of which may be a secret."""
    return hide_secrets(address) != address
