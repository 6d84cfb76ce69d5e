"""ganpipe: from a folder of images to a versioned dataset, a checked GAN and stylized art."""

__version__ = "0.1.0"
