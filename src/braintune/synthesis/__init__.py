"""Where scans are made: simulated cohorts."""
