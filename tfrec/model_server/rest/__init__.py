"""The REST half of the embedded server: an HTTP server within limits, the paths of TensorFlow Serving, and its JSON."""
