"""A retrain of the demo: on what the log is known to get, and until its version answers."""
from tfrec.client.client import Client
from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.demo.servers import wait_until
from tfrec.retrain import Retrained, Session, retrain


def retrain_when_logged(config: Config, client: Client, session: Session, *, outcomes: int, now: int, seed: int) -> Retrained:
    """Retrain when the log has so many outcomes, and return when the model server has the version that is then newest."""
    log = FeedbackLog(config.log_uri)
    wait_until(lambda: bool(log.read("outcomes").num_rows >= outcomes), f"{outcomes} outcomes in the log")
    result = retrain(config, now=now, seed=seed, session=session)
    wait_until(lambda: any(one.version == result.version and one.state == "AVAILABLE" for one in client.status()),
               f"version {result.version} in the model server")
    return result
