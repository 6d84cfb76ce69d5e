"""What each command does: open the workspace, call a stage, show the outcome. Each returns the exit code."""
