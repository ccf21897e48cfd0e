"""`tfrec forget`: erases users."""
import time
from collections.abc import Callable, Collection
from typing import Annotated, Any

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, configured
from tfrec.config import Config
from tfrec.errors import UsageError


@configured
def forget(
    config: Config,
    users: Annotated[
        list[str] | None, typer.Argument(metavar="[USER]...", help="Ids of users, as the application sends them.")
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait for a retrain or a gateway at work: it finishes the rest.")
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
    terminal.show(shown, as_json=as_json)


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
