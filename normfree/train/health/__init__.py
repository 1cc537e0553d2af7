"""What a run watches about itself while it trains, and what it does when something goes wrong."""
