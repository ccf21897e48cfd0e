"""BERT and its relatives in Keras 2, and the parameter-efficient ways to fine-tune them."""
