"""What watches the live system: each monitor compares the newest window of the log with the windows before it.

    windows.py     which windows, and why the newest ends before now
    counted.py     one pass over the log: counts by window, group of users and source
    estimates.py   a change with its interval, and what is more than usual
    sources.py     programs that went silent or whose clock is wrong, which the others leave out
    live.py        reward, actions, delays, context, coverage, novelty, calibration
    catalogue.py   tags and numbers of items, against dated samples
    replayed.py    skew between training and serving, and what people search for
    look.py        all of them, once
    latest.py      the file of the newest look
"""
