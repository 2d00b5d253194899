"""What is run from the shell: demo, test, bench, pretraining."""
