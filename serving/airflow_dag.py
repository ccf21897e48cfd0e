"""A DAG for Airflow 3: one retrain at a time, on schedule. Copy it to the directory of DAGs.

The worker needs tfrec, and the run directory of the settings. TFREC names the program and TFREC_CONFIG the settings. It may be
tried again at any time: a retrain that was killed, at whatever instant, is taken up where it was.

The exit code decides what happens: 0 is done, 1 a failure, which is tried again, 2 wrong usage, which is not. With 3 the gate has
rejected the new model, and the old one serves: the task succeeds, and the next one fails, so that Airflow tells of it.
"""
import logging
import os
import subprocess
from datetime import timedelta

import pendulum
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

CONFIG = os.environ.get("TFREC_CONFIG", "/etc/tfrec/shop.toml")
TFREC = os.environ.get("TFREC", "tfrec")
RETRAIN = [TFREC, "retrain", "--config", CONFIG, "--json"]
WRONG_USAGE, REJECTED = 2, 3

log = logging.getLogger(__name__)


def alert(context):
    """Called for each task that has failed for good. Put the notifier of your pager here."""
    log.error("%s of %s failed: %s", context["ti"].task_id, context["ti"].dag_id, context.get("exception"))


@dag(
    dag_id="tfrec_retrain",
    schedule="7 * * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,  # a run that falls into another one waits
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5), "on_failure_callback": alert},
    tags=["tfrec"],
)
def tfrec_retrain():
    """Learn from the log, and publish what passes the gate."""

    @task(execution_timeout=timedelta(hours=3))
    def retrain():
        """Run one retrain, and return what it says if the gate rejected the model."""
        done = subprocess.run(RETRAIN, stdout=subprocess.PIPE, text=True)
        log.info("exit code %d: %s", done.returncode, done.stdout.strip())
        if done.returncode == WRONG_USAGE:
            raise AirflowFailException(f"wrong usage, which no other try changes: {' '.join(RETRAIN)}")
        if done.returncode not in (0, REJECTED):
            raise RuntimeError(f"exit code {done.returncode}")
        return done.stdout if done.returncode == REJECTED else ""

    @task(retries=0)
    def gate(rejected):
        """Fail if the gate rejected the model."""
        if rejected:
            raise AirflowFailException(f"The gate rejected the new model, and the old one serves: {rejected}")

    gate(retrain())


tfrec_retrain()
