"""Checkpoints of pretrained text encoders in the layout of Hugging Face. Nothing here imports TensorFlow."""
