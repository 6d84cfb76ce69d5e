"""Feed-forward style transfer: one network per style, trained on the contents of a batch."""
