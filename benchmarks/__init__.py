"""What the project's figures come from: each program writes its figures as claims with their limits."""
