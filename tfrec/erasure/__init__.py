"""Erases a user: from the log and what was made of it, from files of the run, and from what published versions carry.

    forget.py     the steps, in an order that may be killed and begun again
    journal.py    what an erasure has found and what is still to do; its receipt
    run_files.py  write-ahead files, rows that were set aside, results, caches
    versions.py   what published versions name, and which of them have learnt from whom
"""
