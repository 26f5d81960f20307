"""From files to batches: datasets, their survey, the decoded cache and augmentation."""
