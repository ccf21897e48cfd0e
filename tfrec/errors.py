"""Every error that tfrec raises on purpose.

    TfrecError             anything below; `except TfrecError` catches all of them      exit 1
    ├── UsageError         the request itself is wrong; nothing has been started        exit 2
    │   └── ConfigError    a key or value of the configuration                          exit 2
    ├── DataError          a file, row or table that cannot be used
    │   └── NothingToLearn  good data, of which an objective can learn nothing yet
    ├── ModelError         a checkpoint or encoder that cannot be loaded
    └── ServingError       a model server that cannot be started, reached or trusted
        └── NotVerified    a version that must not go live: a file of it is damaged, or it answers what no sound one would

A message says what was expected, what came, where, and what to do. The command line prints it without a traceback and
exits with the code beside it. A retrain that the gate rejects is no error: it returns its verdict, and the command exits 3.
"""


class TfrecError(Exception):
    """Base of all errors raised by tfrec; `exit_code` is what the command line exits with."""

    exit_code = 1


class UsageError(TfrecError):
    """An argument, path or combination of them that cannot be carried out. Nothing has been started or written."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key or value that is unknown, ill-typed or out of range."""


class DataError(TfrecError):
    """A catalogue, log or interactions file that cannot be used; names the file and, where there is one, the line."""


class NothingToLearn(DataError):
    """Sound data that an objective cannot learn from yet: no slates, no rewards, no propensities. More of it may change that."""


class ModelError(TfrecError):
    """A checkpoint, encoder or export that cannot be loaded or does not fit its configuration."""


class ServingError(TfrecError):
    """A model server that did not start, did not answer in time, or gave an answer that does not fit its contract."""


class NotVerified(ServingError):
    """A version that must not go live: a file is damaged, its parts disagree, or it answers what no sound version would."""
