"""What the tests of other programs share."""
