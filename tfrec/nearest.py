"""A suggestion for a name that does not exist."""
from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """The words to put after a wrong name in a message: ` (nearest: 'click')` for `Click`, or "" if no known name is near."""
    plain = {one.strip().casefold(): one for one in known}
    found = get_close_matches(name.strip().casefold(), plain, n=1)
    return f" (nearest: {plain[found[0]]!r})" if found else ""
