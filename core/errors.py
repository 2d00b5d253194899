"""The one error that a user can mend."""


class InputError(ValueError):
    """What was found, what was expected and what to do, in one sentence.

    The command line prints it without a traceback and exits with status 2.
    """
