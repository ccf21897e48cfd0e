"""Reads the catalogue and the behaviour that a command works on, and makes them agree on items.

Bad rows stop the reading, or are set aside in a file of the run. Items that the behaviour names and the catalogue lacks are left
out with a warning, or become candidates without text.
"""
import logging
from pathlib import Path

from tfrec.config import Config
from tfrec.data.behaviour.interaction_files import read_interactions
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue, read_catalogue
from tfrec.data.items.unknown_ids import explain_unknown
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.people.erasures import load_people
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.records import Item
from tfrec.errors import DataError, UsageError

log = logging.getLogger(__name__)


def read_dataset(
    config: Config,
    items: Path | None = None,
    interactions: Path | None = None,
    *,
    skip_bad_rows: bool,
    command: str,
    with_unknown_items: bool = False,
) -> tuple[Catalogue, Interactions]:
    """Read the files `items` and `interactions`, by default those of the configuration.

    Args:
        config: of the run.
        items: the catalogue's file.
        interactions: the behaviour's file.
        skip_bad_rows: set bad rows aside instead of raising.
        command: names the command in errors, and the file of the rows that are set aside.
        with_unknown_items: make candidates of items that only the behaviour names.

    Raises:
        UsageError: a file is named nowhere.
        DataError: a file or a row cannot be used, or no event names an item of the catalogue.
    """
    items, interactions = items or config.data.items, interactions or config.data.interactions
    if items is None or interactions is None:
        raise UsageError(
            f"{command} needs a catalogue and interactions: pass --items FILE --interactions FILE, or set data.items and "
            "data.interactions."
        )
    quarantine = Quarantine(config.run / f"quarantine-{command}.jsonl") if skip_bad_rows else None
    catalogue = read_catalogue(items, quarantine)
    known = None if with_unknown_items else catalogue
    inter = read_interactions(interactions, catalogue=known, quarantine=quarantine,
                              reward=LabelRule.of(config, catalogue), people=load_people(config, make_key=False))
    ids = catalogue.ids.tolist()
    if with_unknown_items:
        missing = [item for item in inter.items if item not in catalogue.index]
        if missing:
            why = explain_unknown(missing, ids, others=inter.users)
            if len(missing) == len(inter.items):
                raise DataError(f"{interactions}: none of its {len(missing)} items is in {items}: {why}. Write the ids in both "
                                "files alike.")
            log.warning("%d items of %s are not in %s; they are candidates without text: %s", len(missing), interactions,
                        items, why)
            catalogue = catalogue.with_items(Item(id=item) for item in missing)
        inter = inter.coded_by(catalogue)
    if quarantine is not None and quarantine.count:
        log.warning("%s", quarantine.summary())
    if inter.unknown_items:
        log.warning("%d events name items that are not in %s; they are left out: %s", inter.unknown_items, items,
                    explain_unknown(inter.unknown_ids, ids))
    return catalogue, inter
