"""Reads catalogues, files of behaviour and the feedback log, and makes training examples. Imports no TensorFlow."""
