"""What judging processes run (`feedback.critics.isolated`): optional libraries, imported nowhere else."""
