"""The demonstration: a shop whose customers change, and a model that keeps up."""
