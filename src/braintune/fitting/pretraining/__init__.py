"""Pre-training: sources of scans, the loop, and the weight folder that it leaves."""
