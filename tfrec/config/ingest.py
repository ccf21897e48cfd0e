"""The settings of records that come from elsewhere than the gateway."""
from pathlib import Path

from pydantic import Field

from tfrec.config.section import Section


class IngestConfig(Section):
    """Records that come from elsewhere than the gateway: `tfrec ingest`."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")  # Of the source in the log. None: `kafka`, or `files`.
    kafka: Path | None = None  # A file of librdkafka's properties, such as bootstrap.servers=HOST:PORT, a line each.
    commit_seconds: float = Field(1.0, gt=0)  # The longest time, in seconds, before what was read is committed to the log.
