"""A model adapted to a domain without training it: which experts it needs, at what cost."""
