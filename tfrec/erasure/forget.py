"""Erases users, in steps of which each may be killed and done again: done twice, a step finds nothing to do.

    journal -> tombstone -> write-ahead files -> log -> examples -> rows set aside, results, caches -> versions
    -> what gateways share -> files of earlier versions of the tables -> receipt

From the tombstone on nobody takes the user up again: whoever reads or writes looks at it. Of what runs meanwhile:

- A gateway takes the tombstone up within a second or two. Then the user's next request is a new person's.
- An ingest leaves out what is of the user and from before the erasure, and a join settles nothing of it.
- A retrain ends without publishing what it learns, and the next one learns without the user. The files that it reads stay until
  it has ended: the erasure waits for it, or is finished by it.
"""
import logging
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import Config
from tfrec.data.behaviour.user_table import read_users
from tfrec.data.feedback_log.erased_rows import erase, purge, rows_of, users_of
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.table import LogTable
from tfrec.data.file_lock import held
from tfrec.data.people.erasures import Erasures, load_people, refresh
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.readers.event_files import read_events
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.records import MAX_ID
from tfrec.data.settled.examples import SettledExamples
from tfrec.erasure import run_files, versions
from tfrec.erasure.journal import Journal, Journals, Receipt
from tfrec.errors import TfrecError, UsageError

log = logging.getLogger(__name__)

Shared = Callable[[Collection[str]], int]  # removes what gateways share of some pseudonyms; returns how much that was
EXAMPLES = "examples"
_LATE_SECONDS = 2 * 86_400  # after an erasure, in which rows that were on their way are looked for


def forget(config: Config, user: str, *, now: int, wait: bool = True, shared: Shared | None = None) -> Receipt:
    """Erase a user, or go on with an erasure that was killed.

    Args:
        config: of the run.
        user: the id, as the application sends it.
        now: seconds since 1970.
        wait: for a retrain that is at work, and for gateways; else the receipt says what waits for them.
        shared: removes what gateways share outside the run directory.

    Raises:
        UsageError: there is no such id.
        DataError: a table or file cannot be read or written. Run it again.
    """
    if not 1 <= len(user) <= MAX_ID:
        raise UsageError(f"forget: expected the id of a user, 1 to {MAX_ID} characters, got {len(user)}.")
    journals = Journals(config.run)
    with journals.opened():
        people = load_people(config)
        journal = journals.of(user) or _begin(config, people, user, now=now)
        return _carry_out(config, people, journals, journal, wait=wait, shared=shared)


def finish(config: Config, *, shared: Shared | None = None) -> list[Receipt]:
    """Go on with the erasures that were killed or wait for something, without waiting; returns their receipts."""
    journals = Journals(config.run)
    if not journals.path.is_dir():
        return []
    with journals.opened():
        people = load_people(config)
        return [_carry_out(config, people, journals, journal, wait=False, shared=shared) for journal in journals.pending()]


def finish_after_run(config: Config, *, now: int) -> None:
    """What a retrain does for erasures at its end, when it reads nothing any more; it holds the lock of retrains.

    Erasures that waited for it are finished. Rows that were on their way when somebody was erased are removed.
    """
    journals = Journals(config.run)
    if journals.path.is_dir():
        with journals.opened(wait=False) as is_mine:  # whoever is at work may be waiting for this run
            for journal in journals.pending() if is_mine else ():
                _carry_out(config, load_people(config), journals, journal, wait=False, shared=None, is_alone=True)
    erasures = Erasures(config.log_uri)
    if not erasures.newest():
        return
    people = load_people(config)
    if max(one.time for one in erasures.read(people)) < now - _LATE_SECONDS:
        return
    for table in _tables(config).values():
        if late := people.erased_among(users_of(table)):
            log.info("%s: rows of %d erased users that came late are removed", table.uri, len(late))
            erase(table, late)
            purge(table, late)
    erasures.table.maintain(retention_hours=24)


def _begin(config: Config, people: Pseudonyms, user: str, *, now: int) -> Journal:
    """What is known of a user, and who they are."""
    names = people.names(user)
    journal = Journal(user=user, names=names, newest=names[-1], receipt=Receipt(time=now))
    current, tables = names[-1:], _tables(config)
    rows = {place: rows_of(table, current, ["seq"])["seq"] for place, table in tables.items()}
    for place, found in rows.items():
        journal.found(place, len(found))
    journal.found("write-ahead files", run_files.lines_in_wal(config.run, current))
    if journal.receipt.known:
        last = SettledExamples(config.examples_uri).last() if EXAMPLES in tables else None
        settled = rows.get(EXAMPLES, ())
        journal.part = pc.min(settled).as_py() if len(settled) else (0 if last is None else last.number) + 1
    journal.receipt.tombstone = _in_files(config, people, user)
    journal.in_base = bool(journal.receipt.tombstone.get("data.interactions"))
    if not journal.receipt.known and not journal.receipt.tombstone and len(names) > 1:
        journal.names, journal.newest = names[:-1], None
        at = datetime.fromtimestamp(people.erased_at(names[0]) or 0, UTC).isoformat(" ")
        journal.receipt.note = f"erased before, on {at}, and nothing has come since"
    elif not journal.receipt.known and not journal.receipt.tombstone:
        journal.receipt.note = "nobody by this id is known here"
    journal.receipt.known = journal.receipt.known or bool(journal.receipt.tombstone)
    return journal


def _in_files(config: Config, people: Pseudonyms, user: str) -> dict[str, int]:
    """How many rows the operator's own files have of a user, of those that are read."""
    found = {}
    with tempfile.TemporaryDirectory() as aside:
        quarantine = Quarantine(Path(aside, "rows.jsonl")).without_rows()
        if config.data.interactions is not None and config.data.interactions.exists():
            rows = read_events(config.data.interactions, quarantine).select(["user", "time"])
            theirs = rows.filter(pc.equal(rows["user"].cast(pa.string()), user))
            found["data.interactions"] = people.without_erased(theirs).num_rows
        if config.features.users is not None and config.features.users.exists():
            found["features.users"] = int(user in read_users(config.features, quarantine=quarantine, people=people))
    return {place: count for place, count in found.items() if count}


def _carry_out(config: Config, people: Pseudonyms, journals: Journals, journal: Journal, *, wait: bool, shared: Shared | None,
               is_alone: bool = False) -> Receipt:
    mark, receipt, erasures = people.mark(journal.names[0]), journal.receipt, Erasures(config.log_uri)
    journals.write(journal, mark)
    if journal.newest is not None:
        tombstone = erasures.add(people, journal.newest, time=receipt.time, part=journal.part, in_base=journal.in_base)
        receipt.erasure = tombstone.number
    refresh(people, erasures)
    receipt.waits_for = list(_removed(config, people, journals, journal, mark, wait=wait, shared=shared, is_alone=is_alone))
    receipt.versions = _versions(config, people, erasures, journal)
    if receipt.waits_for:
        journals.write(journal, mark)
    else:
        journals.finish(journal, mark)
    return receipt


def _removed(config: Config, people: Pseudonyms, journals: Journals, journal: Journal, mark: str, *, wait: bool,
             shared: Shared | None, is_alone: bool) -> Iterator[str]:
    """Remove everything; yields what is not done yet."""
    run, names = config.run, journal.names

    def found(place: str, count: int) -> None:
        journal.found(place, count)
        journals.write(journal, mark)

    found("write-ahead files", run_files.lines_in_wal(run, names))
    number = Erasures(config.log_uri).newest()
    for writer in run_files.clear_wal(run, people, number=number, **({} if wait else {"seconds": 2.0})):
        yield f"gateway {writer!r}: it runs and has not taken the erasure up, as it does within seconds or when it starts anew"
    for place, table in _tables(config).items():
        found(place, rows_of(table, names, ["seq"]).num_rows)
        erase(table, names)
    found("rows set aside", run_files.set_aside_lines(run, journal.user, names))
    found("results of retrains", run_files.results(run, names))
    found("caches of files", run_files.caches(run))
    for place, count in versions.unname(config, names).items():
        found(place, count)
    if shared is not None:
        found("gateway.redis", shared(names))
    yield from _purged(config, names, wait=wait, is_alone=is_alone)
    for file in run_files.still_named(run, names, but=journals.path):
        yield f"{file} still names the user: another process has written it meanwhile, or it is not tfrec's"


def _purged(config: Config, names: Collection[str], *, wait: bool, is_alone: bool) -> Iterator[str]:
    """Remove the files of the tables' earlier versions, which a retrain may be reading."""
    lock = config.run / "retrain" / "lock"
    with held(lock, wait=False) as free:
        if free or is_alone:  # then it is held by who calls this
            yield from _purge_all(config, names)
            return
    if not wait:
        yield "a retrain is at work: it removes the files that it reads when it ends"
        return
    log.info("waiting for the retrain that is at work")
    with held(lock, wait=True):
        yield from _purge_all(config, names)


def _purge_all(config: Config, names: Collection[str]) -> Iterator[str]:
    for table in _tables(config).values():
        for attempt in range(3):
            erase(table, names)  # what was on its way
            if not (left := purge(table, names)):
                break
            time.sleep(0.5 * attempt)
        else:
            yield f"{left[0]}: another process has begun to write rows of the user; the next retrain removes them"


def _versions(config: Config, people: Pseudonyms, erasures: Erasures, journal: Journal) -> dict[int, str]:
    """The versions that have learnt from the user, and until when."""
    marks = {people.mark(name) for name in journal.names}
    tombstones = erasures.read(people)
    mine = {one.number for one in tombstones if one.mark in marks}
    try:
        by_version = versions.traces_by_version(config, tombstones)
    except TfrecError as error:
        log.warning("which versions have learnt from the user is not known: %s", error)
        return {}
    until = _until_when(config, list(by_version))
    return {number: until[number] for number, found in by_version.items() if mine.intersection(found)}


def _until_when(config: Config, numbers: list[int]) -> dict[int, str]:
    """How long each version stays."""
    keep, found = config.serving.keep_versions, {}
    for age, number in enumerate(reversed(numbers)):
        left = max(1, keep - age)
        found[number] = f"until {left} more version{'s are' if left > 1 else ' is'} published, while no label names it"
    return dict(sorted(found.items()))


def _tables(config: Config) -> dict[str, LogTable]:
    """The tables that there are."""
    found = {f"log/{kind}": table for kind, table in FeedbackLog(config.log_uri).tables.items()}
    found[EXAMPLES] = SettledExamples(config.examples_uri).table
    return {place: table for place, table in found.items() if table.exists()}


def listed(config: Config) -> list[dict[str, Any]]:
    """All erasures: when each was, which versions have learnt from whom it was of, and what it waits for here."""
    erasures = Erasures(config.log_uri)
    if not erasures.newest():
        return []
    tombstones = erasures.read(load_people(config))
    by_version = versions.traces_by_version(config, tombstones)
    waiting = {journal.receipt.erasure: journal.receipt.waits_for for journal in Journals(config.run).pending()}
    return [{"erasure": one.number, "time": datetime.fromtimestamp(one.time, UTC).isoformat(" "),
             "versions": [number for number, found in by_version.items() if one.number in found],
             "waits_for": waiting.get(one.number, [])} for one in tombstones]
