"""Image files to arrays and back. Knows no GAN."""
