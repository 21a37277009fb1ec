"""How people and machines run it, in rooms that import downwards only; docs/architecture.md draws the floors."""

if __name__ == "ops":  # found because the working folder is the repository: it would be a second copy
    raise ImportError("import perennial.ops, not ops: as a top-level module it would be loaded twice")
