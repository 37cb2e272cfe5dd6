"""araio: run, explain, adapt and train sparse mixture-of-experts reasoning models."""
