"""The forms that pages submit, by what they are about."""
