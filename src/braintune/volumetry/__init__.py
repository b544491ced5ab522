"""Label maps into cubic millimetres, normalised tables, quality flags, and classifiers of them."""
