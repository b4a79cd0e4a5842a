"""What a command does with a study: check it, run what is missing, and conclude."""
