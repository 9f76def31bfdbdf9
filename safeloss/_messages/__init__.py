"""What is said: explanations of a refusal, fixes that were tried, and the line of the user's."""
