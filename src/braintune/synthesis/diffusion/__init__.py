"""Latent diffusion: an autoencoder, a denoiser of its latents, and scans made by both."""
