"""Compares challenger and champion on logged and on live requests."""
