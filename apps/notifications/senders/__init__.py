"""How a message is written for each kind of target, and how it is sent."""
