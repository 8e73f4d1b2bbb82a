"""What keeps `boneage jobs` from doing what was asked; the client's own errors stay in the module that uses it."""


class ClusterError(Exception):
    """The cluster refuses, or does not answer; the message says what was asked for and why not."""


class NotThereError(ClusterError):
    """What is asked for is not there."""
