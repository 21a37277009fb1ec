"""Watches traffic and labels: windows, drift, accuracy, errors, and what they set off."""
