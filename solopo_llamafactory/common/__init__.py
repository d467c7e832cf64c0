"""What every room uses: errors, files, JSON, configuration, processes that talk to each other, and pages."""
