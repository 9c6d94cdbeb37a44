"""The worker: takes tasks from a control plane, runs each on a backend, and reports how it ended."""
