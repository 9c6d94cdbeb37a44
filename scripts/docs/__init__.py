"""The documentation: its generated parts, and the site that is built of it.

``python -m scripts.docs write`` writes the generated parts anew, ``check`` says which of them are
behind, ``site`` builds the pages into ``site/``.
"""
