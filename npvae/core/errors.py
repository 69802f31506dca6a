"""What can go wrong, and the exit code a script ends with when it does.

Every message says what happened, why, and what to do, in at most four lines.
"""


class NpvaeError(Exception):
    """Any error that is not a bug of ours; scripts print it without a traceback."""

    exit_code = 1


class OptionError(NpvaeError):
    """An option or a combination of options that cannot work."""

    exit_code = 2


class DataError(NpvaeError):
    """A dataset that is missing, damaged, or not what its name says."""

    exit_code = 3


class CheckpointError(NpvaeError):
    """A checkpoint that cannot be read, or is not what was saved."""

    exit_code = 4


class DivergedError(NpvaeError):
    """A loss that is no longer finite."""

    exit_code = 5


class RankError(NpvaeError):
    """Another process of the same training has failed and has said why; with its exit code."""


class OutputError(NpvaeError):
    """An output folder that is taken or cannot be written, or a full disk."""

    exit_code = 6
