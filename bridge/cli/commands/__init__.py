"""The commands: their arguments, options and help. `bridge.cli.main` loads the one that is run."""
