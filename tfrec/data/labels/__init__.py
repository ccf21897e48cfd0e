"""Labels: the reward rule, and the join of impressions with outcomes."""
