"""Pure: from what the cluster shows to how a task stands or ended."""
