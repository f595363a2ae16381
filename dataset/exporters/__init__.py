"""One module for each format that a dataset can be written out in."""
