"""Training examples: windows of behaviour, slates with their rewards, and pairs of queries and items."""
