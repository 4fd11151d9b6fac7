"""The command line: one file per command, each a few typed flags over the rooms below."""
