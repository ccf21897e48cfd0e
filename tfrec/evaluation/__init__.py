"""How good a model is, measured one way everywhere: protocol, metrics, intervals, peers, scorecard, gate. No TensorFlow."""
