"""The name that somebody may have meant."""
from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """` (nearest: 'click')` for `Click`, to stand behind the name in a message; nothing where none of `known` is near."""
    plain = {one.strip().casefold(): one for one in known}
    found = get_close_matches(name.strip().casefold(), plain, n=1)
    return f" (nearest: {plain[found[0]]!r})" if found else ""
