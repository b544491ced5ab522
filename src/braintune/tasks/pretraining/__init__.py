"""What backbones are pre-trained on: one file an objective."""
