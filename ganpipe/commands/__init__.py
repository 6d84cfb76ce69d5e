"""One function per command: open the workspace, call a stage, print the outcome. Each returns the exit code."""
