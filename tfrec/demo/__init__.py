"""The demo: the whole loop, from training to retraining, on recorded behaviour."""
