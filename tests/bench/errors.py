"""What goes wrong with a run, as opposed to a figure that is short of its budget."""

__all__ = ["BenchError"]


class BenchError(Exception):
    """The run is worth nothing: a task was lost, ended wrongly, or a process died."""
