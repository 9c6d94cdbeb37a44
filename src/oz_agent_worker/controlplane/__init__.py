"""The control plane: the public Oz Agent API, a queue of runs, and the connections of workers.

``rules`` decides and is pure, ``store`` has the SQL, ``gateway`` connects workers, ``api`` serves
HTTP, and ``app`` builds all of them.
"""
