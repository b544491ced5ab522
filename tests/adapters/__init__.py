"""Tests of the adapters: a package, for `benchmarks/adapters.py` has its name too."""
