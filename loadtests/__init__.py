"""What a request costs, and load for people who know locust."""
