"""Converts files of other products to pipeline files. `converting` has the function that commands call."""

# What each product is called.
PRODUCT_NAMES = {"github": "GitHub Actions", "gitlab": "GitLab CI", "buildkite": "Buildkite"}
PRODUCTS = tuple(PRODUCT_NAMES)
