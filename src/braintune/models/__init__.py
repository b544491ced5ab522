"""Backbones, one file an architecture; weights that fit or fail."""
