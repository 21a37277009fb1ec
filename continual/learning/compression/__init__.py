"""Smaller encoders that answer like a larger one: fewer layers, narrower ones, fewer words; one file each."""

from perennial.continual.learning.compression.shrink import layers_and_width
from perennial.continual.learning.compression.steps import CompressionSpec, Step, StepMade, compress, usual_steps

__all__ = ["CompressionSpec", "Step", "StepMade", "compress", "layers_and_width", "usual_steps"]
