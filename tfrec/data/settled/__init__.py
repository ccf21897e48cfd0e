"""Settled examples: what the join emits never changes again, so it is written once and kept.

    part.py       what one run of the join settled: its number, its window of the log, and what became of the log's rows
    schema.py     the columns
    examples.py   the table of all parts, `<run>/examples`, and what is read from it
    settle.py     joins what the log gained since the last part, and adds the next one
    settle_again.py  joins the whole log by another reward rule; parts that versions know keep their numbers

A retrain reads the parts that its parent has not learnt, the behaviour of the users in them and a sample of other users. It
never joins the past again.
"""
