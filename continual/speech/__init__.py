"""Speech turned into text, for the tasks whose inputs are texts; what loads numpy is imported by its module."""

from perennial.continual.speech.heard import PACKAGED_WHISPER, Heard, RecogniserSpec, check_sure

__all__ = ["PACKAGED_WHISPER", "Heard", "RecogniserSpec", "check_sure"]
