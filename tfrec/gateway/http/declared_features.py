"""What the gateway knows of person and moment: the context of a request, and the columns of the users file.

Both together go to the model and to the log, so training reads what was served.
"""
import logging
import threading
from collections.abc import Mapping

from tfrec.config import FeaturesConfig
from tfrec.config.features import is_number
from tfrec.data.behaviour.user_table import UserTable
from tfrec.data.feedback_log.writer import ErasedAmong
from tfrec.data.records import Context
from tfrec.gateway.http.refusal import RequestRefused

log = logging.getLogger(__name__)
_TOLD = 100  # names of undeclared features that are told of: a name may come from anywhere


class DeclaredFeatures:
    """The features of a configuration. Safe to share between threads.

    Args:
        config: declares them.
        users: the values of each user, by pseudonym.
    """

    def __init__(self, config: FeaturesConfig, users: UserTable | None = None) -> None:
        self._config, self._users = config, users or {}
        self._lock, self._told = threading.Lock(), set[str]()

    def completed(self, context: Context, user: str) -> Context:
        """The context of a request with what the users file says of `user`, a pseudonym. What was sent counts.

        Raises:
            RequestRefused: a feature is declared as a number, and something else was sent.
        """
        sent = context.values()
        for name, value in sent.items():
            if self._config.named.get(name) == "number" and not is_number(value):
                field = f"context.{name}" if name in ("place", "device") else f"context.profile.{name}"[:200]
                raise RequestRefused(422, "This feature is declared as a number in [features]: send digits, such as \"12.5\", or "
                                     "leave it out. What was sent is other text.", field=field)
        self._tell_of_others(sent)
        known = {name: value for name, value in self._users.get(user, {}).items() if name not in sent}
        return context.model_copy(update={"profile": context.profile | known}) if known else context

    def erase(self, erased_among: ErasedAmong) -> None:
        """Forget what the users file says of users who were erased."""
        gone = erased_among(self._users)
        if gone:
            self._users = {user: values for user, values in self._users.items() if user not in gone}

    def read(self, context: Context) -> Mapping[str, str] | None:
        """What a model with these features is told; None where nothing is declared."""
        if not self._config.names:
            return None
        values = context.values()
        return {name: values[name] for name in self._config.named if name in values}

    def _tell_of_others(self, sent: Mapping[str, str]) -> None:
        """Say once of each name that it is logged and read by no model."""
        if not self._config.names or not (others := sent.keys() - self._config.named.keys() - self._told):
            return
        with self._lock:
            for name in sorted(others - self._told)[: max(0, _TOLD - len(self._told))]:
                self._told.add(name)
                log.info("requests say %r, which is not declared in [features]: it is logged, and no model reads it", name[:100])
