"""Puts the parts together and runs them: wiring, service, jobs, health."""
