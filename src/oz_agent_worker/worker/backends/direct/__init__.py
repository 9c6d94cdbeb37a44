"""The direct backend: each task as processes of this host, in a workspace of its own."""
