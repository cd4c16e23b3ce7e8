"""Two levels on the same images."""
