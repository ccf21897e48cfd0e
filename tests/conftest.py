"""Set before anything is imported: Keras 2 for the process, and TensorFlow's start-up lines kept out of the test output."""
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors that matter are raised, not logged

import tfrec  # noqa: E402, F401  before any test module can import TensorFlow
