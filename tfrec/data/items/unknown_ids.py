"""Explains ids that are not in the catalogue: the nearest ids that are, and what probably changed them.

A data frame with gaps turns 10 into 10.0, a spreadsheet turns 007 into 7, and an export pads with spaces. The rows are right, but
none of their ids is known. A count alone would make people look for the fault in the wrong place.
"""
import difflib
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence

SHOWN = 3  # ids that a message names
LOOKED_AT = 200  # unknown ids that are examined, the most frequent
_NEAR = 5_000  # ids of the catalogue that are compared letter by letter


def _plain_number(text: str) -> str:
    """10.0, 1e3 -> 10, 1000."""
    if re.fullmatch(r"\d+\.0*|\d+(?:\.\d+)?[eE]\+?\d{1,2}", text):
        number = float(text)
        return str(int(number)) if number.is_integer() else text
    return text


_CAUSES: Mapping[str, Callable[[str], str]] = {  # the change after which both ids are equal
    "spaces beside them": str.strip,
    "capitals": str.casefold,
    "numbers written with a decimal point, as a data frame does to a column with gaps": _plain_number,
    "leading zeros": lambda text: text.lstrip("0") or "0",
    "quotes around them": lambda text: text.strip("'\""),
    "bytes written as text": lambda text: re.sub(r"^b(['\"])(.*)\1$", r"\2", text),
    "another Unicode form of the same letters": lambda text: unicodedata.normalize("NFKC", text),
    "a prefix": lambda text: re.sub(r"^\D+", "", text) or text,
    "several of: spaces, capitals, zeros, a decimal point, punctuation":
        lambda text: re.sub(r"[\W_]", "", _plain_number(text.strip(" \t'\""))).casefold().lstrip("0"),
}


def explain_unknown(unknown: Sequence[str], known: Sequence[str], *, others: Collection[str] = ()) -> str:
    """Some unknown ids beside the nearest known ones, with the likely cause where one is found.

    Args:
        unknown: ids, the most frequent first.
        known: ids of the catalogue.
        others: ids of the users' column; if these are in the catalogue, the columns were probably swapped.
    """
    there = set(known)
    if others and 2 * sum(name in there for name in others) >= len(others):
        return f'"{unknown[0]}" and so on; but ids of users are in the catalogue: are the columns user and item swapped?'
    looked_at = unknown[:LOOKED_AT]
    for cause, alike in _CAUSES.items():
        same = {alike(name): name for name in reversed(known)}
        pairs = {name: same[key] for name in looked_at if (key := alike(name)) in same}
        if 2 * len(pairs) >= len(looked_at):
            named = ", ".join(f'"{name}" beside "{near}"' for name, near in list(pairs.items())[:SHOWN])
            return f"{named} of the catalogue. The difference: {cause}"
    few = [f'"{name}" (nearest of the catalogue: {_nearest(name, known)})' for name in looked_at[:SHOWN]]
    return ", ".join(few)


def _nearest(name: str, known: Sequence[str]) -> str:
    step = max(1, len(known) // _NEAR)
    near = difflib.get_close_matches(name, known[::step], n=1, cutoff=0.5)
    return f'"{near[0]}"' if near else f'none, its ids are like "{known[0]}"' if known else "it is empty"
