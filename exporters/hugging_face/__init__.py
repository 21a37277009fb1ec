"""A version as a folder that transformers loads, for whoever takes it elsewhere."""

from perennial.exporters.hugging_face.folder import WrittenFolder, write_folder

__all__ = ["WrittenFolder", "write_folder"]
