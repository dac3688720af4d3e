#!/usr/bin/env python3
"""image.py OUT NAME PROGRAM: a docker archive of an image that is one static program, its entry point."""
import hashlib, io, json, os, sys, tarfile

out, name, program = sys.argv[1:]
inside = os.path.basename(program)


def add(tar, path, data, mode=0o644):
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar, open(program, "rb") as f:
    add(tar, inside, f.read(), 0o755)
layer = layer.getvalue()
diff = hashlib.sha256(layer).hexdigest()
config = json.dumps({
    "architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/" + inside], "WorkingDir": "/"},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + diff]},
}).encode()
digest = hashlib.sha256(config).hexdigest()
manifest = [{"Config": digest + ".json", "RepoTags": [name], "Layers": [diff + "/layer.tar"]}]
with tarfile.open(out + ".part", "w") as tar:
    add(tar, digest + ".json", config)
    add(tar, diff + "/layer.tar", layer)
    add(tar, "manifest.json", json.dumps(manifest).encode())
os.replace(out + ".part", out)
