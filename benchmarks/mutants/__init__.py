"""Whether the tests would notice a fault: plant one fault at a time, and run the tests of its module."""
