"""From trained weights to a verified bundle: ONNX, compiled engines, parity, and the files that Triton loads."""

if __name__ == "exporters":  # found because the working folder is the repository: it would be a second copy
    raise ImportError("import perennial.exporters, not exporters: as a top-level module it would be loaded twice")
