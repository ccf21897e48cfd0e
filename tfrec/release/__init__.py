"""Versions on disk: exported, checked, verified by a real server, published by one rename, rolled back."""
