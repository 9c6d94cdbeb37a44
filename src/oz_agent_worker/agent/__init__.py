"""The agent runtime: the program inside the task (``oz-agent``).

It fetches its run from the control plane, runs the harness that the run names and ends with the
harness's exit code. It imports the standard library and ``contract`` only, so that it starts fast and
fits into any task image.
"""

__all__: list[str] = []
