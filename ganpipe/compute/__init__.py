"""The machine: devices, processes, locks, randomness, checkpoints. Knows no GAN."""
