"""Scans: read, prepare, store, load, augment, inspect."""
