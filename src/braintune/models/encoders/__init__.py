"""Encoders of 2D slices, one file a kind; each registers its `EncoderEntry`s."""
