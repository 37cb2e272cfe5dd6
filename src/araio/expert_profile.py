"""`ExpertProfile`: which experts of each layer a domain needs, as a file."""
