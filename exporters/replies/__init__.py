"""Replies as clients see them; their bundles are a text classifier's, with the weights of a matcher."""
