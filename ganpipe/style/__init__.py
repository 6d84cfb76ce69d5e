"""Neural style transfer: losses, objective, optimization, feed-forward networks, batches."""
