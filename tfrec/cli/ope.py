"""`tfrec ope`: off-policy evaluation of a version, from the log."""
import time
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, SkipBadRows, bad_rows, configured, load_tensorflow
from tfrec.config import Config


@configured
def ope(
    config: Config,
    version: Annotated[int | None, typer.Option(metavar="VERSION", help="The version to judge; default: the newest.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="The temperature of its policy, instead of gateway.temperature.")
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(min=0, max=1, help="The epsilon of its policy, instead of gateway.epsilon.")
    ] = None,
    places: Annotated[
        int | None, typer.Option(min=1, help="Count the rewards of the first positions of a slate only, so many; default: all.")
    ] = None,
    sample: Annotated[int, typer.Option(min=30, help="The most slates that are used.")] = 10_000,
    skip_bad_rows: SkipBadRows = False,
    as_json: AsJson = False,
) -> None:
    """Estimate, before it goes live, the reward that a version would have earned when it explores.

    The estimate is made from the logged slates that were drawn with known propensities. Where the log does not support the
    policy, the command gives the reason instead of a number.
    """
    load_tensorflow()
    from tfrec.ope import ope

    with bad_rows(config, "ope", skip=skip_bad_rows) as quarantine:
        found = ope(config, version=version, temperature=temperature, epsilon=epsilon, places=places, sample=sample,
                    now=int(time.time()), quarantine=quarantine)
    terminal.show(found, as_json=as_json)
