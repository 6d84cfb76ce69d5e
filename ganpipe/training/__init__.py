"""Training: `loop.train` tells the story; `step`, `stream`, `checkpoint` and `device` are its parts."""
