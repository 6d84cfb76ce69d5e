"""Training: `trainer` is the loop; `setup` builds what it needs; `gan` is the algorithm."""
