"""The migrations, one a file, in the order that their ``down_revision`` gives."""
