"""The items that can be shown: the catalogue, the kinds of its columns, and the features that a model reads."""
