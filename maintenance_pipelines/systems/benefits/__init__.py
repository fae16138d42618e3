"""Benefits: statuses of credit-card benefits that a failed job never created."""
