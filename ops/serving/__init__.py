"""Serving on Triton: the server and its door, the router and the engines inside it, and the way to both."""
