"""Where a cut was made: the heatmap of the layers, and one layer opened."""
