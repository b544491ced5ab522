"""Weight records: what a set needs, where it comes from, and loading that fits or fails."""
