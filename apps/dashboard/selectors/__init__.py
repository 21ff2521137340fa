"""What pages read that no other app knows: reports over several apps."""
