"""The HTTP interface of the chat orchestrator (chats whose larger requests become goals), at its own paths.

``wishes``: what its calls ask for, as goals. ``shapes``: its JSON. ``desk``: what its calls do. ``threads``: sessions
as threads. ``frames``: answers as a stream of UI messages. ``routes``: the routes. An adapter: it makes the platform's
commands and reads the platform's views, and keeps nothing of its own.
"""
