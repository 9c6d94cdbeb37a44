"""Pure: from the state of Jobs, Pods and events to the state or the outcome of a task."""
