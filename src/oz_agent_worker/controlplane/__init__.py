"""A small control plane: the public Oz Agent API, a queue, and the worker hub.

``states``, ``dispatch``, ``capacity``, ``ending``, ``cursor`` and ``views`` are pure;
``store`` holds the SQL; ``hub``, ``dispatcher`` and ``intake`` connect workers to it;
``api`` and ``worker_socket`` are the HTTP shell, and ``server`` puts all together.
"""
