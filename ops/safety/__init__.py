"""Keeps secrets, files and terminals safe: hidden values, hashed tokens, permissions, printable text."""
