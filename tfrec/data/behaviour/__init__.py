"""Who did what when: interactions from files and from the log, and what of them counts."""
