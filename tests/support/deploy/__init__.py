"""What deploy/ has, running."""
