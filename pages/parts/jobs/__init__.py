"""Work that a page starts and watches: runs, plans, and what else takes longer than a moment."""
