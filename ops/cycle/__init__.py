"""Carries a cycle: its runner, its steps, its inbox, and tries again."""
