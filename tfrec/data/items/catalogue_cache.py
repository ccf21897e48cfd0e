"""The catalogues that were read last, by the contents of their files.

A retrain reads the parent's catalogue, the file of items, and what it has written itself; a process that runs on reads the same
files again a few seconds later. To check 9,000 rows takes half a second, and to hash them a millisecond.
"""
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from tfrec.data.items.catalogue import Catalogue, read_catalogue
from tfrec.data.readers.files import contents_digest
from tfrec.data.readers.quarantine import Quarantine

KEPT = 3
MOST_ITEMS = 100_000  # of a catalogue that is kept, about 200 MB

_kept: OrderedDict[str, Catalogue] = OrderedDict()


def cached_catalogue(path: str | Path, quarantine: Quarantine | None = None, *,
                     kinds: Mapping[str, str] | None = None) -> Catalogue:
    """`read_catalogue`, which reads a file of the same contents once; not one with bad rows, which are told each time."""
    key = hashlib.sha256(repr((contents_digest(path), sorted((kinds or {}).items()))).encode()).hexdigest()
    if key in _kept:
        _kept.move_to_end(key)
        return _kept[key]
    bad = 0 if quarantine is None else quarantine.count
    found = read_catalogue(path, quarantine, kinds=kinds)
    if len(found) <= MOST_ITEMS and (quarantine is None or quarantine.count == bad):
        _kept[key] = found
        if len(_kept) > KEPT:
            _kept.popitem(last=False)
    return found
