"""The weight records, one file a publication; each registers its `WeightRecord`s."""
