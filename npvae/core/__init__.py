"""What everything stands on: named arrays, validation of arguments, errors, the optimizer base."""
