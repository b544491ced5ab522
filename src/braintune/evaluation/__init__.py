"""Protocols and statistics: splits, baselines, intervals, paired tests, bias."""
