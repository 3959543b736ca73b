"""What the end of a file's name says of the file."""

from __future__ import annotations

TEXT = (".csv", ".tsv", ".txt", ".data", ".dat")  # one example a line
TABLES = (*TEXT, ".arff", ".parquet")  # columns with names
ARRAYS = (".npz", ".npy", ".h5", ".libsvm", ".svm")  # inputs and labels apart
PACKED = (".gz", ".bz2", ".xz")  # behind the ending of a text
FILES = (*TABLES, *ARRAYS)


def ending(source: str) -> str:
    """Which of FILES a path ends in, in small letters and whether packed or not; empty for none.

    Parameters
    ----------
    source : str
        A path.

    Returns
    -------
    str

    Examples
    --------
    >>> from meanfield.datasets.endings import ending
    >>> ending("iris.CSV"), ending("a9a.svm.gz"), ending("xor")
    ('.csv', '.svm', '')
    """
    small = source.lower()
    for packed in PACKED:
        small = small.removesuffix(packed)
    found = next((one for one in FILES if small.endswith(one)), "")
    return found if small == source.lower() or found in (*TEXT, ".libsvm", ".svm") else ""
