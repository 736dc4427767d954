"""The operator's port: metrics, health and pages, served by one Python thread beside the data ports."""
