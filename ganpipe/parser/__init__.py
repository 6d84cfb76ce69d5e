"""The commands and options of `ganpipe`, one file per family. What a command does is in `ganpipe.commands`."""
