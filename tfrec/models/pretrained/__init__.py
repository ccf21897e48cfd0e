"""Checkpoints of pretrained text encoders, as Hugging Face lays them out. Nothing here imports TensorFlow."""
