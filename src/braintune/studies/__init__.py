"""Many recipes on the same splits: which choice is best, and how much data it takes."""
