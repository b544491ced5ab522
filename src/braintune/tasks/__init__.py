"""Kinds of target: head, loss and metrics."""
