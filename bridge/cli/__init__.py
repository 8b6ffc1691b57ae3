"""The command line. `main` has the commands and their options; each one's work is a module."""
