"""Pictures, drawn with Pillow: image grids, loss curves, scatter plots, the manifold, and axes."""
