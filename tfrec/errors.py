"""All errors that tfrec raises on purpose.

    TfrecError              the base of all errors below                                 exit code 1
    ├── UsageError          the request is wrong, and no work has been done              exit code 2
    │   └── ConfigError     a key or value of the configuration is wrong                 exit code 2
    ├── DataError           a file, row or table cannot be used
    │   └── NothingToLearn  the data is good, but an objective cannot learn from it yet
    ├── ModelError          a checkpoint or encoder cannot be loaded
    └── ServingError        a model server cannot be started, reached or trusted
        └── NotVerified     a version must not go live

A message says what was expected, what came, where, and what to do. The command line prints it without a traceback and exits with
the code. A retrain whose challenger the gate rejects is not an error: it returns the verdict, and the command exits with 3.
"""


class TfrecError(Exception):
    """The base of all errors of tfrec. The command line exits with `exit_code`."""

    exit_code = 1


class UsageError(TfrecError):
    """An argument or path is wrong, or a combination of them. Nothing has been started or written."""

    exit_code = 2


class ConfigError(UsageError):
    """A key of the configuration is unknown, or its value has a wrong type or is out of range."""


class DataError(TfrecError):
    """A catalogue, log or file of interactions cannot be used. The message names the file and, if there is one, the line."""


class NothingToLearn(DataError):
    """An objective has no slates, rewards or propensities to learn from. More data may change that."""


class ModelError(TfrecError):
    """A checkpoint, encoder or export cannot be loaded, or does not fit its configuration."""


class ServingError(TfrecError):
    """A model server did not start, did not answer in time, or gave an answer that breaks its contract."""


class NotVerified(ServingError):
    """A version must not go live: a file is damaged, its parts disagree, or its answers are wrong."""
