"""What is known of person and moment: how it becomes numbers, and what these add to the query vector."""
