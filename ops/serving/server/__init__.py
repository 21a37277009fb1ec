"""The embedded Triton: its files, its start, its watch, and the front door before it."""
