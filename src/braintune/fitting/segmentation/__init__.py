"""Fits of label maps: what they learn from, their loss, whole scans, native space, scores."""
