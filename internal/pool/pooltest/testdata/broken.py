"""A module that always fails in the same way."""

raise RuntimeError("this module is broken on purpose")
