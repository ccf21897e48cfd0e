"""`tfrec publish`, `tfrec rollback` and `tfrec status`: the versions of a run, of which the newest answers."""
import time
from pathlib import Path
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, SkipBadRows, bad_rows, configured, load_tensorflow
from tfrec.config import Config
from tfrec.errors import UsageError


@configured
def publish(
    config: Config,
    export: Annotated[Path | None, typer.Argument(metavar="[EXPORT]", help="A directory that tfrec export wrote.")] = None,
    items: Annotated[Path | None, typer.Option(help="Items that are new or changed.")] = None,
    prior: Annotated[bool, typer.Option("--prior", help="Count the outcomes that were logged since.")] = False,
    skip_bad_rows: SkipBadRows = False,
    as_json: AsJson = False,
) -> None:
    """Verify an export in a fresh model server and publish it as the newest version.

    Old versions beyond serving.keep_versions are removed, unless serving.models_config names them.
    With --items or --prior instead of an export, the newest version is published again with other items or popularity. It takes
    seconds, because the weights are shared. A retrain reads data.items and not --items: items without a row there are not shown.
    """
    if (export is None) != (items is not None or prior):
        raise UsageError("publish needs an EXPORT directory, or else --items FILE, --prior or both, to change what is served.")
    terminal.writable(config.run)
    from tfrec.release.publish import publish
    from tfrec.release.retention import retire
    from tfrec.release.shared_versions import store_of
    from tfrec.release.verify import Verifier

    if export is not None:
        load_tensorflow()
        _look_at(export, config)
        version = publish(export, config.models_dir, store=store_of(config))
    else:
        with bad_rows(config, "publish", skip=skip_bad_rows) as quarantine, Verifier() as verifier:
            load_tensorflow()  # while the verifier's server imports it as well
            from tfrec.release.delta import publish_delta

            now = int(time.time())
            version = publish_delta(config, items=items, prior=prior, now=now, quarantine=quarantine, verifier=verifier)
    removed = retire(config)
    terminal.show({"version": version, "directory": config.models_dir / str(version), "removed": removed}, as_json=as_json)


def _look_at(export: Path, config: Config) -> None:
    """Flag items of an export before they are shown; one without a catalogue is refused later, with its reason."""
    from tfrec.data.items.catalogue import read_catalogue
    from tfrec.release.manifest import CATALOGUE
    from tfrec.review.scan import scan_before_publishing

    if config.review.terms is not None and (export / CATALOGUE).is_file():
        scan_before_publishing(config, read_catalogue(export / CATALOGUE).items, now=int(time.time()))


@configured
def rollback(
    config: Config,
    to: Annotated[
        int | None, typer.Option(metavar="VERSION", help="The version to publish; default: the one before the newest.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Publish an older version again, under a new number."""
    from tfrec.release.manifest import read_manifest
    from tfrec.release.publish import rollback
    from tfrec.release.shared_versions import store_of

    def tell(version: int) -> None:
        manifest = read_manifest(config.models_dir / str(version))
        found = {"version": version, "copy_of": manifest.copy_of, "rolled_back_from": manifest.rolled_back_from}
        terminal.show(found, as_json=as_json)

    rollback(config.models_dir, to, now=int(time.time()), told=tell, store=store_of(config))


@configured
def status(
    config: Config,
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="REST address of a server to ask as well.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the published versions, and count the rows of the feedback log."""
    from tfrec.status import status

    terminal.show(status(config, server=server), as_json=as_json)
