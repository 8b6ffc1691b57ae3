"""The ways in: each turns what its users speak into requests for the desk, and answers back."""
