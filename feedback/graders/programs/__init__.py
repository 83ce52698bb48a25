"""What judging processes run (`feedback.graders.isolated`): optional libraries, imported nowhere else."""
