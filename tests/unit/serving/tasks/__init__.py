"""Tests of the tasks at the router."""
