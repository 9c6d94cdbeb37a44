"""The documentation: its generated parts, and the site that is built from it.

``python -m scripts.docs write`` writes every generated file of the repository, ``check`` names
those that are behind, ``site`` builds the pages into ``site/``.
"""
