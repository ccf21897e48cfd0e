"""Experiments on live users: who gets what, and what the log says about it, at any moment that somebody looks.

`user_moments` sums up an arm, `confidence_sequence` compares arms and `sample_ratio` checks who came; all three hold however
often one looks.
"""
