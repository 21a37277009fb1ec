"""Differential privacy: noise on sums, what it costs, and a budget of it."""
