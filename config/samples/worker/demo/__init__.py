"""The sample worker: commands that work, and commands that fail in every way a pool has to bear."""
