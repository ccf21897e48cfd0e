"""`tfrec review scan|list|approve|reject`: flagged items, and what people decide on them."""
import getpass
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, Items, configured
from tfrec.config import Config
from tfrec.errors import UsageError

if TYPE_CHECKING:
    from tfrec.review.decide import Verdict

Item = Annotated[str, typer.Argument(metavar="ITEM", help="The id of a flagged item.")]
Note = Annotated[str, typer.Option("--note", help="Why, for the record.")]
Who = Annotated[str, typer.Option("--by", help="Your name, for the record; default: that of your account.")]
Overrule = Annotated[bool, typer.Option("--overrule", help="Change a decision that was taken before.")]

review = typer.Typer(no_args_is_help=True, help="Flag items by a list of terms and a classifier, and approve or reject them.")


@configured
def scan(config: Config, items: Items = None, as_json: AsJson = False) -> None:
    """Look at the texts of data.items, or of the newest version's catalogue without it, and flag what review.terms says.

    Texts that were looked at cost nothing again. A retrain does the same with the items that it publishes.
    """
    if config.review.terms is None:
        raise UsageError("review scan needs review.terms in the configuration: a file of words and phrases by label.")
    terminal.writable(config.run)
    from tfrec.data.items.catalogue import read_catalogue
    from tfrec.release.manifest import CATALOGUE
    from tfrec.release.publish import newest_dir
    from tfrec.review.scan import scan

    version_dir = newest_dir(config.models_dir)
    file = items or config.data.items or (None if version_dir is None else version_dir / CATALOGUE)
    if file is None:
        raise UsageError(f"review scan needs items: name them by --items or data.items. {config.models_dir} has no version.")
    terminal.show(asdict(scan(config, read_catalogue(file).items, now=int(time.time()))), as_json=as_json)


@configured
def queue(
    config: Config,
    limit: Annotated[int, typer.Option(min=1, help="Items at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the items that wait for a review, the oldest first, with their texts and what flags them."""
    from tfrec.review.standing import ReviewState

    state = ReviewState.of(config.run)
    waiting = state.waiting()
    terminal.show({"waiting": len(waiting), "hidden": len(state.hidden(hold=config.review.hold)), "queue": [
        {"item": one.flag.item, "since": f"{datetime.fromtimestamp(one.since, UTC):%Y-%m-%d %H:%M}",
         "why": [" ".join(filter(None, (why.label, why.by, why.term, "" if why.score is None else f"{why.score:.2f}")))
                 for why in one.flag.reasons],
         "text": one.flag.text if as_json else one.flag.text[:200]} for one in waiting[:limit]]}, as_json=as_json)


@configured
def approve(
    config: Config, item: Item, note: Note = "", by: Who = "", overrule: Overrule = False, as_json: AsJson = False,
) -> None:
    """Let an item be shown, as long as its text stays as it is."""
    _decide(config, item, "approve", note=note, by=by, overrule=overrule, as_json=as_json)


@configured
def reject(
    config: Config, item: Item, note: Note = "", by: Who = "",
    label: Annotated[str, typer.Option("--label", help="What for; default: what it was flagged for first.")] = "",
    overrule: Overrule = False, as_json: AsJson = False,
) -> None:
    """Never show an item, until a person approves another text of it. Gateways of the run directory know within two seconds."""
    _decide(config, item, "reject", note=note, by=by, label=label, overrule=overrule, as_json=as_json)


def _decide(config: Config, item: str, verdict: "Verdict", *, by: str, as_json: bool, **said: Any) -> None:
    terminal.writable(config.run)
    from tfrec.review.decide import decide
    from tfrec.review.standing import ReviewState

    done = decide(ReviewState(config.run), item, verdict, now=int(time.time()), labels=config.review.labels,
                  who=by or _account(), **said)
    terminal.show(done.model_dump(exclude={"text", "reasons", "why", "key"}), as_json=as_json)


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container, nobody has this number
        return "somebody"


for name, command in (("scan", scan), ("list", queue), ("approve", approve), ("reject", reject)):
    review.command(name)(command)
