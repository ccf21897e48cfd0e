"""The assignment of residual slots to items.

The table of residuals has a fixed size, so shapes never depend on the vocabulary. An item gets a slot at its first feedback. When
none is free, it takes over the slot whose item has been longest without feedback, and the residual starts at zero again.
"""
import numpy as np
import numpy.typing as npt


def assign_slots(
    slot: npt.NDArray[np.int32], items: npt.NDArray[np.integer], last_seen: npt.NDArray[np.integer], *, slots: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Give a slot to each of `items` that has none.

    Args:
        slot: `[n_items]`, slots so far; 0 for none.
        items: Positions of items with feedback, in any order, repeats allowed.
        last_seen: `[n_items]`, time of each item's newest feedback, these included.
        slots: Size of the table, slot 0 (no item's) included.

    Returns:
        The slots by item `[n_items]`, and the slots that changed hands, whose residuals must be cleared.
    """
    slot = slot.copy()
    wanting = np.unique(items)
    wanting = wanting[slot[wanting] == 0]
    # the newest first: when all do not fit, the stalest go without
    wanting = wanting[np.argsort(-last_seen[wanting], kind="stable")][: slots - 1]
    free = np.setdiff1d(np.arange(1, slots), slot)
    taken = np.zeros(0, np.int64)
    if len(wanting) > len(free):
        holders = np.flatnonzero(slot)
        holders = holders[np.argsort(last_seen[holders], kind="stable")][: len(wanting) - len(free)]
        # an item is not pushed out by one that was seen before it
        fresher = last_seen[wanting[len(free) : len(free) + len(holders)]] > last_seen[holders]
        holders = holders[fresher]
        taken = slot[holders].astype(np.int64)
        slot[holders] = 0
    given = np.concatenate([free, taken])[: len(wanting)]
    slot[wanting[: len(given)]] = given
    return slot, taken
