"""The parts of Explore: the view in the address, the recommendation, the trade-off, and what is shared."""
