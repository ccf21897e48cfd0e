"""Examples in, scores out: the text encoder, the two towers and the streaming popularity prior, in Keras 2."""
