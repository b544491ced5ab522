"""Scans made from label maps: anatomies of real people, deformed and imaged anew."""
