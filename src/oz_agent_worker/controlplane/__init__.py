"""A small control plane: the public Oz Agent API, a queue, and the worker connections.

``states``, ``dispatch``, ``capacity``, ``ending``, ``cursor`` and ``views`` are pure;
``store`` holds the SQL; ``connections``, ``dispatcher`` and ``frame_handler`` connect workers to it;
``api`` and ``worker_socket`` are the HTTP shell, and ``server`` puts all together.
"""
