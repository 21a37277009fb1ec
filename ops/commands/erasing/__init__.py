"""Erases a person: rows, copies, versions; then searches for what is left."""
