"""HTTP for all apps: requests, bodies, problem details, the API document and the content security policy."""
