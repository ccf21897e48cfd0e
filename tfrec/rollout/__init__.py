"""Starts and stops experiments, tries promoted versions on some users first, and moves labels in the model server's file."""
