"""Making frozen networks trainable with few parameters; one file a method."""
