"""Starts and stops experiments, with what the model server's configuration says of labels."""
