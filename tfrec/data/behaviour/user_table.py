"""What is known about users: the columns of a users file that the configuration declares as features, as text.

A value stays text until the model reads it, as in the context of a request, so that one function makes the model's tensors of
both.
"""
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from tfrec.config import FeaturesConfig, Kind
from tfrec.config.features import is_number
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.readers.columns import ColumnNames
from tfrec.data.readers.quarantine import GoodRows, Quarantine, reject
from tfrec.data.readers.rows import brief, located_rows

log = logging.getLogger(__name__)

UserTable = Mapping[str, Mapping[str, str]]  # the values of each user by the name of the feature; what is not known is not there


def read_users(features: FeaturesConfig, *, key: Callable[[str], str] | None = None,
               quarantine: Quarantine | None = None, people: Pseudonyms | None = None) -> UserTable:
    """Read the users file of `features`; nothing where there is none. Of two rows of a user the last counts.

    Args:
        features: names the file and its columns.
        key: gives the name by which a user is looked up; by default the id in the file.
        quarantine: takes rows that cannot be used.
        people: know who was erased: nothing of these users is read, as nobody knows whether a row is older than that.

    Raises:
        DataError: the file cannot be read or has no column `user`, or a row is wrong and there is no quarantine.
    """
    if features.users is None:
        return {}
    found: dict[str, Mapping[str, str]] = {}
    names, good = ColumnNames(("user",), tuple(features.user)), GoodRows(features.users, quarantine)
    for file, line, row in located_rows(features.users, names, quarantine=quarantine):
        values = _values(row, features.user)
        if isinstance(values, str):
            reject(quarantine, file, line, reason=values, row=row)
            continue
        good.count += 1
        user = _text(row["user"])
        if people is not None and people.is_erased(people.names(user)[0]):
            continue
        found[user if key is None else key(user)] = values
    good.check()
    known = {name for values in found.values() for name in values}
    for name in [name for name in features.user if name not in known]:
        log.warning("%s: no row has a value of %r, which features.user declares", features.users, name)
    return found


def _values(row: Mapping[str, Any], kinds: Mapping[str, Kind]) -> dict[str, str] | str:
    """The declared values of a row; what is wrong with it, in a sentence."""
    if not _text(row.get("user")):
        return f'"user": expected an id, got {brief(row.get("user"))}'
    values = {name: text for name in kinds if (text := _text(row.get(name)))}
    for name, text in values.items():
        if kinds[name] == "number" and not is_number(text):
            return f'"{name}": expected a number, as features.user declares, got {brief(text)}'
        if len(text) > 512:
            return f'"{name}": expected at most 512 characters, got {len(text)}'
    return values


def _text(value: Any) -> str:
    """A value of any file format as the text that a request would send: 10, not 10.0; "" for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) <= 1 << 53:
        value = int(value)
    return str(value).strip()
