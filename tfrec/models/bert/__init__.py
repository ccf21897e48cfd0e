"""BERT and its kin in Keras, how they are tuned by few parameters (PEFT), and their files."""
