"""The loop: what is learnt, remembered, noticed and decided. It knows nothing of servers, databases or HTTP."""

if __name__ == "continual":  # found because the working folder is the repository: it would be a second copy
    raise ImportError("import perennial.continual, not continual: as a top-level module it would be loaded twice")
