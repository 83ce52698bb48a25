"""What judging processes run (`feedback.critics.isolated`). Their libraries are optional and never imported elsewhere."""
