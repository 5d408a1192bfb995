"""Where prompts are continued: the engine in this process, a server, a script."""
