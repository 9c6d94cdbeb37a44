"""A real Prometheus for the tests, and what it is asked."""
