#!/usr/bin/env python3
"""Builds the example's and the tests' images from installed Debian packages, one docker archive each.

images.py OUT [IMAGE...]: packages that are missing are installed with apt-get. An image is the files of its packages, the
libraries their programs need, busybox for a shell, and the image's own files.
"""
import hashlib, io, json, os, re, subprocess, sys, tarfile

HERE = os.path.dirname(os.path.abspath(__file__))
PASSWD = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP = "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n"

# Debian's page and site are made when the package is set up
NGINX = {
    "/etc/nginx/nginx.conf": "worker_processes 1;\nerror_log stderr;\npid /run/nginx.pid;\nevents {}\n"
                             "http { access_log off; server { listen 80; root /var/www/html; } }\n",
    "/var/www/html/index.html": "nginx\n",
}

IMAGES = {
    # busybox with its applets
    "busybox": {"packages": [], "cmd": ["sh"]},
    # dig, nslookup and curl: busybox's own cannot resolve names, as it is linked statically with glibc
    "dnsutils": {"packages": ["bind9-dnsutils", "bind9-host", "curl"], "cmd": ["sleep", "infinity"]},
    "nginx": {"packages": ["nginx-light", "nginx-common", "nginx-core", "nginx"], "texts": NGINX, "cmd": ["nginx", "-g", "daemon off;"],
              "dirs": ["/var/log/nginx", "/var/lib/nginx", "/run"], "stop": "SIGQUIT"},
    "redis": {"packages": ["redis-server", "redis-tools"], "cmd": ["redis-server"], "dirs": ["/data"]},
    "shop-api": {"packages": ["python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"],
                 "files": {"/srv/api.py": "shop/api.py"}, "cmd": ["/usr/bin/python3.11", "-u", "/srv/api.py"]},
    "shop-web": {"packages": ["nginx-light", "nginx-common", "nginx-core", "nginx"], "files": {"/srv/index.html": "shop/index.html"},
                 "cmd": ["nginx", "-g", "daemon off;"], "dirs": ["/var/log/nginx", "/var/lib/nginx", "/run"], "stop": "SIGQUIT"},
}
SKIP = re.compile(r"^/usr/share/(doc|man|locale|lintian|bug)/|/__pycache__/|/test/|^/etc/(systemd|init\.d|logrotate|ufw)|/\.$")


def run(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


def installed(package):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Status}", package], capture_output=True, text=True)
    return "ok installed" in done.stdout


def known(package):
    done = subprocess.run(["apt-cache", "show", "--no-all-versions", package], capture_output=True, text=True)
    return done.returncode == 0 and bool(done.stdout)


def libraries(path, found):
    """The shared libraries of an ELF file and of those, with the loader."""
    done = subprocess.run(["ldd", path], capture_output=True, text=True)
    for library in re.findall(r"(?:=> )?(/\S+) \(0x", done.stdout):
        if library not in found:
            found.add(library)


def is_elf(path):
    with open(path, "rb") as f:
        return f.read(4) == b"\x7fELF"


class Layer:
    def __init__(self):
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w", format=tarfile.PAX_FORMAT)
        self.seen = set()

    def entry(self, path, kind, data=b"", mode=0o755, link=""):
        path = path.lstrip("/")
        if path in self.seen or not path:
            return
        parent = os.path.dirname(path)
        if parent and parent not in self.seen:
            self.entry(parent, tarfile.DIRTYPE)
        self.seen.add(path)
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.size, info.linkname = kind, mode, len(data), link
        self.tar.addfile(info, io.BytesIO(data))

    def text(self, path, text):
        self.entry(path, tarfile.REGTYPE, text.encode(), 0o644)

    def copy(self, path):
        """A file of the machine under its own name, through the links that lead to it."""
        directory = os.path.realpath(os.path.dirname(path))
        path = os.path.join(directory, os.path.basename(path))
        if os.path.islink(path):
            target = os.readlink(path)
            self.entry(path, tarfile.SYMTYPE, link=target)
            real = os.path.join(directory, target)
            if os.path.isfile(real):
                self.copy(real)
        elif os.path.isfile(path):
            with open(path, "rb") as f:
                self.entry(path, tarfile.REGTYPE, f.read(), os.stat(path).st_mode & 0o7777)

    def done(self):
        self.tar.close()
        return self.buffer.getvalue()


def root_file_system(image):
    layer = Layer()
    # a merged /usr: what names /bin or /lib finds /usr/bin and /usr/lib
    for name in ("bin", "sbin", "lib", "lib64"):
        layer.entry("usr/" + name, tarfile.DIRTYPE)
        layer.entry(name, tarfile.SYMTYPE, link="usr/" + name)
    for path, mode in (("tmp", 0o1777), ("root", 0o700), ("var/www", 0o755), ("proc", 0o755), ("sys", 0o755), ("dev", 0o755)):
        layer.entry(path, tarfile.DIRTYPE, mode=mode)
    layer.text("etc/passwd", PASSWD)
    layer.text("etc/group", GROUP)
    for inside, text in image.get("texts", {}).items():
        layer.text(inside, text)
    for inside, here in image.get("files", {}).items():
        with open(os.path.join(HERE, here), "rb") as f:
            layer.entry(inside, tarfile.REGTYPE, f.read(), 0o644)
    for path in image.get("dirs", []):
        layer.entry(path, tarfile.DIRTYPE, mode=0o1777)
    needed = set()
    for package in filter(installed, image["packages"]):
        for path in run("dpkg", "-L", package).split("\n"):
            if SKIP.search(path) or not (os.path.isfile(path) or os.path.islink(path)):
                continue
            layer.copy(path)
            if os.path.isfile(path) and is_elf(path):
                libraries(path, needed)
    for library in sorted(needed):
        layer.copy(library)
    with open("/bin/busybox", "rb") as f:
        layer.entry("usr/bin/busybox", tarfile.REGTYPE, f.read(), 0o755)
    for applet in run("/bin/busybox", "--list").split():
        layer.entry("usr/bin/" + applet, tarfile.SYMTYPE, link="busybox")
    return layer.done()


def archive(name, image, out):
    layer = root_file_system(image)
    diff = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": image["cmd"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + diff]},
    }
    if "stop" in image:
        config["config"]["StopSignal"] = image["stop"]
    config = json.dumps(config).encode()
    digest = hashlib.sha256(config).hexdigest()
    tags = [f"docker.io/library/{name}:{tag}" for tag in ("1", "2", "latest")]
    manifest = json.dumps([{"Config": digest + ".json", "RepoTags": tags, "Layers": [diff + "/layer.tar"]}]).encode()
    path = os.path.join(out, name + ".tar")
    with tarfile.open(path + ".part", "w") as tar:
        for member, data in ((digest + ".json", config), (diff + "/layer.tar", layer), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    os.replace(path + ".part", path)
    print(f"{path}  {os.path.getsize(path) >> 20} MiB")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    out, names = sys.argv[1], sys.argv[2:] or list(IMAGES)
    os.makedirs(out, exist_ok=True)
    wanted = ["busybox-static"] + [p for n in names for p in IMAGES[n]["packages"]]
    missing = sorted({p for p in wanted if not installed(p) and known(p)})
    # only what the machine's release has: nginx is one package in some and three in others
    if missing:
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True, stdout=subprocess.DEVNULL,
                       env=environment)
    for name in names:
        packages = IMAGES[name]["packages"]
        if packages and not any(map(installed, packages)):
            sys.exit(f"{name}: none of the packages {', '.join(packages)} can be had from this machine's package sources")
        archive(name, IMAGES[name], out)


main()
