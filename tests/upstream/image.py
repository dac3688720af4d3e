#!/usr/bin/env python3
"""image.py OUT NAME PROGRAM: an archive of an image that is one static program, its entry point."""
import os, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../packaging"))
import oci

out, name, program = sys.argv[1:]
inside = os.path.basename(program)
with oci.Archive(out) as archive:
    archive.image([name], [oci.Layer().file(inside, program, 0o755)], {"Entrypoint": ["/" + inside]})
