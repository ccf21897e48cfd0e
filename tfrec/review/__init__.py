"""The review of items: what flags them, what waits for a person, and the record of flags and decisions."""
