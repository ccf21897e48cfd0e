"""Reads a user's files strictly: JSON lines, CSV and Parquet, with errors that name the line."""
