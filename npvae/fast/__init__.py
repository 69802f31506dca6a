"""The engine: the same arithmetic as the lesson, compiled, one worker for each core."""
