"""A local page and a JSON endpoint to try a trained network."""
