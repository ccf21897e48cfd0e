"""The part of the gateway in experiments: which arm a request is in, and answers that are made of two arms or more."""
