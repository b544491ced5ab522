"""Diffusion series: gradients, masks, tensors and their maps, ready for a network."""
