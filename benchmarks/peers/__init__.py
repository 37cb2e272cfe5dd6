"""Other engines, built and driven beside araio; nothing outside benchmarks/ imports this."""
