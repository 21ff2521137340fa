"""The providers of repositories: each one is a folder, and all of them have the functions of `interface.Provider`."""
