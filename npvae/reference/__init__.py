"""What npvae is compared with: the same network in PyTorch and JAX, and the benchmark."""
