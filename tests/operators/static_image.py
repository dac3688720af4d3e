"""An image of static programs and nothing else, as operators' own images are."""
import os

import oci

USERS = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"


def static_image(name, *programs, user="65532:65532", entrypoint=None, folder="/", layers=()):
    """Programs go into a folder under their own names; the first is what starts, unless `entrypoint` is given."""
    layer = oci.Layer().directory("tmp", 0o1777).directory("home/nonroot").text("etc/passwd", USERS)
    for program in programs:
        layer.file(os.path.join(folder, os.path.basename(program)), program, 0o755)
    return [name], [layer, *layers], {"Entrypoint": entrypoint or [os.path.join(folder, os.path.basename(programs[0]))], "User": user}
