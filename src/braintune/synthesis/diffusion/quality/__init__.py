"""How good sampled scans are: diversity, likeness, memorisation, and whether they obey."""
