"""The front door: the `motifs` command, the demo, the report, the state of a session."""
