"""Keeps a deployed model good by itself. Its parts lie in the folders beside this one; see docs/decisions/0004."""
