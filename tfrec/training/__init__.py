"""Windows of behaviour in, a trained recommender out: input, loop, checkpoints, devices, replay."""
