"""The figures of README and tour. No command needs them: `python -m npvae.plots.figures --help`."""
