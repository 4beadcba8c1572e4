"""Taskloom as an MCP server: what a model may do with tasks, over the HTTP API and with its key's rights."""
