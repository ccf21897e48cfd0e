"""What logged actions are worth: rewards, the label rule, and the join of impressions with outcomes."""
