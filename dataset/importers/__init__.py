"""One module for each kind of source that `motifs build` accepts."""
