"""The part of the log that one retrain reads."""
from pydantic import BaseModel, ConfigDict

from tfrec.data.feedback_log.schema import Kind

Seqs = dict[Kind, dict[str, int]]  # newest sequence number per table and writer


class Window(BaseModel):
    """What arrived between two retrains: per table and writer, the rows with start < seq <= end.

    Compaction and deletion rewrite rows into new table versions but never renumber them, so windows tile the log: each row is in
    exactly one. Labels mature with time, not with arrival, so a window also spans the time from `matured_from` to `now`.
    """

    model_config = ConfigDict(frozen=True)

    start: Seqs
    end: Seqs
    matured_from: int  # `now` of the window before, 0 for the first
    now: int  # seconds; labels whose attribution window closed before this are final
    impressions_version: int  # of the Delta tables, to read the same rows again
    outcomes_version: int
    impressions_before: int | None = None  # the versions that the window before this one read; None for the first
    outcomes_before: int | None = None

    def version(self, kind: Kind) -> int:
        """The version of a table that is read."""
        return self.impressions_version if kind == "impressions" else self.outcomes_version

    def version_before(self, kind: Kind) -> int | None:
        """The version of a table that the window before this one read."""
        return self.impressions_before if kind == "impressions" else self.outcomes_before
