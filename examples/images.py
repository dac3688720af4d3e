#!/usr/bin/env python3
"""Builds the example's and the tests' images from installed Debian packages, one archive each.

images.py OUT [IMAGE...]: packages that are missing are installed with apt-get. An image is the files of its packages, the
libraries their programs need, busybox for a shell, and the image's own files.
"""
import os, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../packaging"))
import oci

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


def root_file_system(image):
    layer = oci.Layer().merged_usr()
    for path, mode in (("tmp", 0o1777), ("root", 0o700), ("var/www", 0o755), ("proc", 0o755), ("sys", 0o755), ("dev", 0o755)):
        layer.directory(path, mode)
    layer.text("etc/passwd", PASSWD).text("etc/group", GROUP)
    for inside, text in image.get("texts", {}).items():
        layer.text(inside, text)
    for inside, here in image.get("files", {}).items():
        layer.file(inside, os.path.join(HERE, here), 0o644)
    for path in image.get("dirs", []):
        layer.directory(path, 0o1777)
    for package in filter(oci.installed, image["packages"]):
        layer.package(package)
    return layer.busybox()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    out, names = sys.argv[1], sys.argv[2:] or list(IMAGES)
    os.makedirs(out, exist_ok=True)
    oci.install(["busybox-static"] + [p for n in names for p in IMAGES[n]["packages"]])
    for name in names:
        image = IMAGES[name]
        if image["packages"] and not any(map(oci.installed, image["packages"])):
            sys.exit(f"{name}: none of the packages {', '.join(image['packages'])} can be had from this machine's package sources")
        config = {"Cmd": image["cmd"], **({"StopSignal": image["stop"]} if "stop" in image else {})}
        path = os.path.join(out, name + ".tar")
        with oci.Archive(path) as archive:
            archive.image([f"docker.io/library/{name}:{tag}" for tag in ("1", "2", "latest")], [root_file_system(image)], config)
        print(f"{path}  {os.path.getsize(path) >> 20} MiB")


main()
