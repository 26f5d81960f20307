"""Pictures of what a trial did."""
