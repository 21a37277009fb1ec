"""Tests of how good a model is said to be."""
