"""One fit: network, loop, checkpoints, the deployable model, prediction."""
