"""Feeds of headlines: read from where they were left, and asked of the served model like any other request."""
