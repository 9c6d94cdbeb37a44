"""What can go wrong with the test cluster itself, as opposed to with the code under test."""

__all__ = ["ApiError", "ClusterError", "ProvisionError", "StartError"]


class ClusterError(Exception):
    """The test cluster cannot be had or does not do what it should."""


class ProvisionError(ClusterError):
    """A binary of the cluster can be neither found nor built."""


class StartError(ClusterError):
    """A process of the cluster ended, or was not ready in time; the message has the end of its log."""


class ApiError(ClusterError):
    """The API server answered with an error.

    ``status`` is the HTTP status code, ``body`` the server's answer.
    """

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: HTTP {status}: {body[:500]}")
        self.status = status
        self.body = body
