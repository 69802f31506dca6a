"""Pictures, drawn with Pillow, and pages for the browser.

Image grids, samples, paths through the latent space, the manifold, scatter plots, loss curves,
animations; the page of a run (`report/`) and the explorer (`explorer/`). `figures/` draws those of
README and tour, which no command needs.
"""
