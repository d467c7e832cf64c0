"""From a record to a packed row: files, the host's data path, tokens, dropping and counting, cost."""
