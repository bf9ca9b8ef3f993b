"""The judge of the drop-in: CPython's own tests of managers, run through ours.

    python -m tests.cpython                          # every start method
    python -m tests.cpython --start-method spawn WithManagerTestQueue

Nothing of CPython is copied: the tests are those of the running interpreter. `--package
multiprocessing` judges the standard library itself, which shows that the judge is just.
"""
