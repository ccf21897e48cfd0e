"""Texts into token ids, inside the TensorFlow graph."""
