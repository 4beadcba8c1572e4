"""Tools that tasks call: those of registered MCP servers, and descriptions of those that are built in."""
