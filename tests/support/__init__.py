"""What the tests are written with; none of it is a test."""
