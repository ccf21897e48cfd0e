"""The retrain job: it learns what the log gained since the live version and publishes the result, if it passes the gate.

    run_directory.py  the job's own directory: one run at a time, and the files that a run leaves
    intent.py         what a run is a function of, written down before the work starts
    window.py         which part of the log, and which other behaviour, a run reads
    split.py          which events of the window judge, and which are learnt
    learning.py       the objectives, from the parent's weights
    judging.py        the challenger beside the champion
    job.py            the steps in their order
    outdated.py       what leaves the log and the examples when it is old
    session.py        what the runs of one process share
    beats.py          when a job that runs on begins a run

A run is a function of its window, parent version, configuration, time and seed. A run that was killed is taken up by the next
one, which comes to the same verdict; a version carries the identity of its run, so it is not published twice.
"""
from tfrec.retrain.job import retrain
from tfrec.retrain.result import PROMOTED, REJECTED, WAITING, Retrained
from tfrec.retrain.session import Session, Stopped

__all__ = ["PROMOTED", "REJECTED", "WAITING", "Retrained", "Session", "Stopped", "retrain"]
