"""Runs programs: states, forks, streams, batches; backends are the only way out."""
