"""The second stage: how likely each declared action is, for the items that the first stage has found."""
