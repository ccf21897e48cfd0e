"""The demo: the whole loop on recorded behaviour."""
