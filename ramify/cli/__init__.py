"""The command line: one module per verb, each with `add_parser` (its options) and `run`.

Options of the engine and the server come from their config dataclasses (`ramify.runtime.options`).
No module here imports torch, or the runtime beyond its config, before a command needs it: help and
a language-only install stay quick.
"""
