"""Catalogue and log in, examples out. Nothing here imports TensorFlow."""
