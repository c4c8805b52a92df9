"""The `xplore` command: thin, one file a command or two."""
