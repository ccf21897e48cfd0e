"""The served graph: raw strings in, item ids out, inside one SavedModel."""
