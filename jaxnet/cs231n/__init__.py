"""The package of the CS231n course, and of its renamed copies, computed by jaxnet.

Change a notebook's `from cs231n.layers import *` to `from jaxnet.cs231n.layers import *`, or leave
it as it is and run this cell first:

    import jaxnet.cs231n
    jaxnet.cs231n.stand_in_for("cs231n")  # or "daseCV", "cs682", "dl", ...
    jaxnet.cs231n.course_year(2017)  # only for notebooks of 2017 and before

Modules, names, signatures, random draws and printed lines are the course's, with the code that
the course leaves to the student. Two things differ: weights are saved as safetensors instead of
pickles, and mistakes raise an error that names them.
"""

from jaxnet.cs231n.conventions import course_year
from jaxnet.cs231n.stand_in import stand_in_for

__all__ = ["course_year", "stand_in_for"]
