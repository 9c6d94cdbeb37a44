"""The HTTP API: one module for each resource and for each kind of request."""
