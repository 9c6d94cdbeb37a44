"""Pure: from a task spec to the manifests of its Job and Secret."""
