"""Training of the recommender: batches, the training loop, early stopping, checkpoints, devices and replay."""
