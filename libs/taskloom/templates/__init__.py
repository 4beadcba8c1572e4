"""Workflows for common purposes, as data: what the templates' routes and the Python API's builders are made from."""

from taskloom.templates.catalogue import TEMPLATES, BadParameters, Template, instantiate

__all__ = ["TEMPLATES", "BadParameters", "Template", "instantiate"]
