"""Sites that learn together by exchanging sums, never rows."""
