"""The runtime: serves tokens. README.md is its map."""
