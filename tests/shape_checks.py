"""Runtime checks of annotations, shapes included, while the tests run."""

from beartype import BeartypeConf, beartype

# An int is a float, as the typing rules have it.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
