"""The error a user can cause; by itself, so that who only raises it does not load jax."""


class UserError(ValueError):
  """A mistake the user can mend: one line that holds the value, what was expected, the next move.

  `cli.run` prints it without a traceback and exits with status 2. Anything else is our bug.
  """
