"""Learning from logged slates: objectives, position bias, the policy that logged, and the trainer."""
