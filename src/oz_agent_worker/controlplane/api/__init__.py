"""The HTTP API: one module for each resource and each request that it reads."""
