"""Where a task runs: one module or package a backend, all behind ``base.Backend``."""
