"""The model: text encoder, item and query tower, streaming popularity prior and the bandits' head, in Keras 2."""
