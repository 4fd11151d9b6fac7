"""The models that the paper trained itself: one recipe in, one `.keras` file with its card and log out."""
