"""The frozen VGG19: the network and where its weights come from."""
