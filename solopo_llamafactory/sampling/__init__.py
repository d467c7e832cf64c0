"""A model's answers to prompts, in a file that only grows: in this process or from a server."""
