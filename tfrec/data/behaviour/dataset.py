"""The catalogue and the behaviour that a command works on, read together: files in, records that name each other out.

Bad rows stop the reading, or are set aside in a file of the run; items that the behaviour names and the catalogue does not have
are left out and told, or become candidates without text.
"""
import logging
from pathlib import Path

from tfrec.config import Config
from tfrec.data.behaviour.interactions import Interactions, read_interactions
from tfrec.data.items.catalogue import Catalogue, read_catalogue
from tfrec.data.items.unknown_ids import explain_unknown
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.readers.rows import Quarantine
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
    """The catalogue of `items` and the behaviour in `interactions`, by default those of the configuration.

    Args:
        skip_bad_rows: whether they are set aside.
        command: for whom it is read: names it in errors, and the file of what is set aside.
        with_unknown_items: whether items that only the behaviour names are candidates.

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
                              reward=LabelRule.of(config, catalogue))
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
