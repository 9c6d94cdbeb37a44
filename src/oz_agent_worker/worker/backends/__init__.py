"""Where tasks run: one package for each backend, all behind ``base.Backend`` and in ``registry``."""
