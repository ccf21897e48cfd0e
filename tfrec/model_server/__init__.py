"""An embedded model server that speaks TensorFlow Serving's two protocols. It knows nothing of our model."""
