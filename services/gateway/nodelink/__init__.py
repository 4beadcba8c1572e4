"""The HTTP interface of the nodelink project (shell and docker tasks on agents), at its own paths.

``words``: its vocabulary. ``shapes``: its JSON. ``desk``: what its calls do. ``frames``: its event stream. ``routes``:
the routes. An adapter: it makes the platform's commands and reads the platform's views, and keeps nothing of its own.
"""
