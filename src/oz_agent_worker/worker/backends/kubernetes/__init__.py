"""Tasks as Kubernetes Jobs: ``KubernetesBackend`` runs them.

The path of the data: ``manifest`` (from a task to a Job) → ``job_creation`` → cluster →
``watch.reflector`` → ``watch.job_index`` → ``execution`` → ``status`` (from an observation to an outcome).
"""
