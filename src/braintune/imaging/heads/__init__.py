"""Raw heads: bias field, brain mask and registration, from the scanner to MNI152 space."""
