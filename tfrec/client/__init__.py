"""The client of a model server: typed requests, tensors, and the signatures that both ends share."""
