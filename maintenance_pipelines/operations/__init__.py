"""What goes on beside the jobs: mails that they decided on. Knows the engine, no system."""
