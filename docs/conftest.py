collect_ignore = ["griffe_examples.py"]  # runs where the site is built, with the packages of that
