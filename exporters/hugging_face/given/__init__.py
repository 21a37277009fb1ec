"""The files of code that go into a folder for transformers; see `perennial.exporters.hugging_face.folder`."""
