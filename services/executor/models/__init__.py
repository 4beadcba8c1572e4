"""The model port: what a handler asks, and the models that answer."""
