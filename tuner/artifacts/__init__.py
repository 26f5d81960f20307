"""Files of an attempt at a trial: where all hosts keep them, and how they get there."""
