"""How good a model is: protocol, metrics, intervals, baselines, scorecard, off-policy estimators and the gate. No TensorFlow."""
