"""The control API: its guard before every request, and its routes."""
