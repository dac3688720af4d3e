"""Images without a registry: layers made of this machine's files, and archives of them in OCI's layout.

An archive made twice of the same files is the same, byte for byte.
"""
import hashlib, io, json, os, re, subprocess, sys, tarfile, tempfile

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# what a package brings that no image needs
UNNEEDED = re.compile(r"^/usr/share/(doc|man|locale|lintian|bug)/|/__pycache__/|/test/|^/etc/(systemd|init\.d|logrotate|ufw)|/\.$")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def installed(package):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Status}", package], capture_output=True, text=True)
    return "ok installed" in done.stdout


def known(package):
    done = subprocess.run(["apt-cache", "show", "--no-all-versions", package], capture_output=True, text=True)
    return done.returncode == 0 and bool(done.stdout)


def install(packages):
    """Installs those that are missing and that the machine's release has: nginx is one package in some and three in others."""
    missing = sorted({p for p in packages if not installed(p)})
    if missing and not all(map(known, missing)):
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
    missing = list(filter(known, missing))
    if missing:
        # in this run level no daemon is started
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def libraries(program):
    """The shared libraries of an ELF file and of those, with the loader; none for a static one or a script."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True)
    if "not found" in done.stdout:
        sys.exit(f"{program}: a library is missing on this machine:\n{done.stdout}")
    return re.findall(r"(?:=> )?(/\S+) \(0x", done.stdout)


def is_elf(path):
    with open(path, "rb") as f:
        return f.read(4) == b"\x7fELF"


class Layer:
    """A layer's entries by path; of two entries for a path the first stays."""

    def __init__(self):
        self.entries = {}

    def put(self, path, kind, mode, source=b"", link=""):
        path = path.strip("/")
        if not path or path in self.entries:
            return self
        self.put(os.path.dirname(path), tarfile.DIRTYPE, 0o755)
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.linkname = kind, mode, link
        info.size = len(source) if isinstance(source, bytes) else os.path.getsize(source)
        self.entries[path] = (info, source)
        return self

    def directory(self, path, mode=0o755):
        return self.put(path, tarfile.DIRTYPE, mode)

    def link(self, path, target):
        return self.put(path, tarfile.SYMTYPE, 0o777, link=target)

    def text(self, path, text, mode=0o644):
        return self.put(path, tarfile.REGTYPE, mode, text.encode())

    def file(self, path, source, mode=None):
        """A file of this machine under a name of the image's."""
        return self.put(path, tarfile.REGTYPE, os.stat(source).st_mode & 0o7777 if mode is None else mode, os.path.realpath(source))

    def copy(self, path):
        """A file of this machine under its own name, with the links that lead to it."""
        directory = os.path.realpath(os.path.dirname(path))
        path = os.path.join(directory, os.path.basename(path))
        if os.path.islink(path):
            target = os.readlink(path)
            self.link(path, target)
            real = os.path.join(directory, target)
            if os.path.isfile(real):
                self.copy(real)
        elif os.path.isfile(path):
            self.file(path, path)
        return self

    def program(self, path):
        """A program of this machine under its own name, with its libraries; `nc` for one that Debian's alternatives choose."""
        self.copy(path)
        for library in libraries(path):
            self.copy(library)
        return self

    def package(self, name):
        """The files of an installed Debian package and the libraries that its programs need."""
        for path in output("dpkg", "-L", name).split("\n"):
            if UNNEEDED.search(path) or not (os.path.isfile(path) or os.path.islink(path)):
                continue
            self.copy(path)
            if os.path.isfile(path) and is_elf(path):
                for library in libraries(path):
                    self.copy(library)
        return self

    def merged_usr(self):
        """What names /bin or /lib finds /usr/bin and /usr/lib."""
        for name in ("bin", "sbin", "lib", "lib64"):
            self.directory("usr/" + name).link(name, "usr/" + name)
        return self

    def busybox(self, program="/bin/busybox"):
        self.file("usr/bin/busybox", program, 0o755)
        for applet in output(program, "--list").split():
            self.link("usr/bin/" + applet, "busybox")
        return self

    def write(self, file):
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for path in sorted(self.entries):
                info, source = self.entries[path]
                with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as data:
                    tar.addfile(info, data)


class Archive:
    """An archive that is written when the `with` ends; images share the layers that are the same object."""

    def __init__(self, path):
        self.path, self.manifests, self.blobs, self.layers = path, [], {}, {}

    def __enter__(self):
        self.scratch = tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(self.path)))
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self._finish()
        self.scratch.cleanup()

    def _blob(self, media_type, data):
        """Keeps bytes, or a file that is named; returns the descriptor."""
        if isinstance(data, bytes):
            digest, size = hashlib.sha256(data).hexdigest(), len(data)
        else:
            with open(data, "rb") as f:
                digest, size = hashlib.file_digest(f, "sha256").hexdigest(), os.path.getsize(data)
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": size}

    def _layer(self, layer):
        if id(layer) not in self.layers:
            path = os.path.join(self.scratch.name, str(len(self.layers)))
            with open(path, "wb") as f:
                layer.write(f)
            self.layers[id(layer)] = (self._blob("application/vnd.oci.image.layer.v1.tar", path), layer)
        return self.layers[id(layer)][0]

    def image(self, names, layers, config):
        """Adds an image of full names (`registry/repository:tag`); `config` is OCI's: Entrypoint, Cmd, User and so on."""
        descriptors = [self._layer(layer) for layer in layers]
        document = {
            "architecture": "amd64", "os": "linux", "config": {"Env": [PATH], "WorkingDir": "/", **config},
            "rootfs": {"type": "layers", "diff_ids": [d["digest"] for d in descriptors]},
        }
        kind = "application/vnd.oci.image.{}.v1+json".format
        manifest = {
            "schemaVersion": 2, "mediaType": kind("manifest"), "layers": descriptors,
            "config": self._blob(kind("config"), json.dumps(document).encode()),
        }
        descriptor = self._blob(kind("manifest"), json.dumps(manifest).encode())
        for name in names:
            # the first is containerd's
            annotations = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1]}
            self.manifests.append({**descriptor, "annotations": annotations})

    def _finish(self):
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": self.manifests}
        with tarfile.open(self.path + ".part", "w") as tar:
            documents = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode()}
            for name, data in {**documents, **{"blobs/sha256/" + d: b for d, b in self.blobs.items()}}.items():
                info = tarfile.TarInfo(name)
                info.size = len(data) if isinstance(data, bytes) else os.path.getsize(data)
                with io.BytesIO(data) if isinstance(data, bytes) else open(data, "rb") as content:
                    tar.addfile(info, content)
        os.replace(self.path + ".part", self.path)
