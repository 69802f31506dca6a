"""How the figures of reference/README.md are measured. No program of a user needs this."""
