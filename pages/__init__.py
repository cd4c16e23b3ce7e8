"""One file a page; what pages share is in `parts`."""
