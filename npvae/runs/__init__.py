"""A run: its directory, lock, environment, trained model, and what it reports to the user."""
