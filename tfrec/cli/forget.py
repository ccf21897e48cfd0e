"""`tfrec forget`: erases users."""
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, configured
from tfrec.config import Config
from tfrec.errors import TfrecError, UsageError


@configured
def forget(
    config: Config,
    users: Annotated[
        list[str] | None, typer.Argument(metavar="[USER]...", help="Ids of users, as the application sends them.")
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait for a retrain or a gateway at work: it finishes the rest.")
    ] = False,
    retrain_from_clean: Annotated[
        bool, typer.Option("--retrain-from-clean", help="Then retrain from a version that has learnt from none of them; train "
                           "one anew if there is none.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Erase users: from the log, the examples, write-ahead files, rows set aside, results, and what versions name.

    Prints what was removed where, and which versions have learnt from a user. A user who acts again is a new person.
    Killed at any time, run it again. Without USER it finishes what waits, and lists all erasures.
    """
    terminal.writable(config.run)
    from tfrec.erasure.forget import finish, forget, listed

    shared = _shared(config)
    if not users:
        finish(config, shared=shared)
        terminal.show({"erasures": listed(config)}, as_json=as_json)
        return
    if doubled := [user for user in users if users.count(user) > 1]:
        raise UsageError(f"forget: {doubled[0]!r} is named twice.")
    shown: dict[str, Any] = {}
    for user in users:
        shown[user] = forget(config, user, now=int(time.time()), wait=not no_wait, shared=shared).model_dump(mode="json")
    if retrain_from_clean:
        shown["steps"] = _retrain_from_clean(config)
    terminal.show(shown, as_json=as_json)


def _retrain_from_clean(config: Config) -> dict[str, str]:
    """Run the commands that publish a version without traces, one after the other; returns how each ended.

    Each is a process of its own, as it is when an operator runs it. One that fails ends this, and can be run again by hand.
    """
    from tfrec.erasure.versions import has_clean_version

    export = config.run / f"export-clean-{int(time.time())}"
    anew = [["train", "--restart"], ["export", str(export)], ["publish", str(export)]]
    ended: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as directory:
        settings = Path(directory, "settings.toml")
        settings.write_text(config.to_toml(), encoding="utf-8")
        for words in [*([] if has_clean_version(config) else anew), ["retrain"]]:
            done = subprocess.run([sys.executable, "-m", "tfrec", *words, "--config", str(settings), "--json"],
                                  stdout=subprocess.PIPE, check=False)
            ended[words[0]] = {0: "done", 3: "rejected by the gate"}.get(done.returncode, "failed")
            if ended[words[0]] == "failed":
                raise TfrecError(f"forget: the users are erased, but `tfrec {' '.join(words)}` failed; its error is above. "
                                 "Mend it, and run it and the steps after it: docs/privacy.md.")
    shutil.rmtree(export, ignore_errors=True)
    return ended


def _shared(config: Config) -> Callable[[Collection[str]], int] | None:
    """Removes what gateways told each other of some pseudonyms; None without Redis."""
    url = config.gateway.redis
    if url is None:
        return None
    from tfrec.data.people.erasures import load_people
    from tfrec.gateway.fleet.redis_peers import RedisPeers, name_in_redis

    def erase(names: Collection[str]) -> int:
        peers = RedisPeers(url, run=name_in_redis(config.run, load_people(config)), sender="forget")
        try:
            return peers.erase_sent(lambda some: set(some).intersection(names))
        finally:
            peers.close()

    return erase
