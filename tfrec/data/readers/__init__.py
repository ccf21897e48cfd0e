"""Files of a user, read strictly: JSON lines, CSV and Parquet, with errors that name the line."""
