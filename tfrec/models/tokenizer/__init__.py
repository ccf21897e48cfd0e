"""The tokenizer of a text encoder as TensorFlow operators."""
