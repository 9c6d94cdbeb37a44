"""Tasks as Kubernetes Jobs: ``KubernetesBackend`` runs them.

The line that data travels: ``manifest`` (a task becomes a Job) → ``creation`` → cluster →
``reflector`` → ``index`` → ``execution`` → ``observe`` (what was seen becomes an outcome).
"""
