"""A DNS client that says in full what it is answered, and an upstream server whose answers follow from the name.

    resolver.py ADDRESS      the server, at port 53
"""
import ipaddress
import socket
import socketserver
import struct
import sys
import threading

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "HINFO": 13, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "NAPTR": 35, "OPT": 41, "DS": 43, "DNSKEY": 48, "HTTPS": 65, "AXFR": 252, "ANY": 255, "X": 65280}
CLASSES = {"IN": 1, "CH": 3, "HS": 4, "NONE": 254, "ANY": 255, "X": 99}


def labels(name):
    made = b""
    for part in name.encode().rstrip(b".").split(b".") if name.strip(".") else []:
        made += bytes([min(len(part), 255)]) + part
    return made + b"\0"


def packet(step, number=4242):
    """The bytes of a query: {name, type, class, flags, edns: {size, version, do, options}, count}, or {raw}."""
    if "raw" in step:
        return bytes.fromhex(step["raw"])
    question = labels(step["name"]) + struct.pack(">HH", TYPES[step["type"]], CLASSES[step.get("class", "IN")])
    count = step.get("count", 1)
    edns = b""
    if step.get("edns"):
        one = step["edns"]
        options = bytes.fromhex(one.get("options", ""))
        edns = b"\0" + struct.pack(">HHBBHH", 41, one.get("size", 1232), 0, one.get("version", 0), 0x8000 if one.get("do") else 0, len(options)) + options
    return struct.pack(">HHHHHH", number, step.get("flags", 0x0100), count, 0, 0, 1 if edns else 0) + question * count + edns


def name_at(data, at):
    made, end, jumps = [], None, 0
    while True:
        length = data[at]
        if length & 0xC0 == 0xC0:
            end = end or at + 2
            at = (length & 0x3F) << 8 | data[at + 1]
            jumps += 1
            if jumps > 50:
                raise ValueError("a name without end")
            continue
        if length == 0:
            return ".".join(made) + ".", end or at + 1
        made.append(data[at + 1:at + 1 + length].decode("latin-1"))
        at += 1 + length


def record(data, at):
    name, at = name_at(data, at)
    kind, class_, ttl, length = struct.unpack(">HHIH", data[at:at + 10])
    at += 10
    rest, end = data[at:at + length], at + length
    type_ = next((text for text, number in TYPES.items() if number == kind), str(kind))
    if kind == 41:
        return {"type": "OPT", "size": class_, "version": ttl >> 16 & 255, "extended": ttl >> 24, "do": bool(ttl & 0x8000), "options": rest.hex()}, end
    if kind in (1, 28):
        value = str(ipaddress.ip_address(rest))
    elif kind in (2, 5, 12):
        value = name_at(data, at)[0]
    elif kind == 33:
        value = [*struct.unpack(">HHH", rest[:6]), name_at(data, at + 6)[0]]
    elif kind == 15:
        value = [struct.unpack(">H", rest[:2])[0], name_at(data, at + 2)[0]]
    elif kind == 6:
        one, at = name_at(data, at)
        other, at = name_at(data, at)
        value = [one, other, *struct.unpack(">IIIII", data[at:at + 20])]
    else:
        value = rest.hex()
    return {"name": name, "type": type_, "class": class_, "ttl": ttl, "value": value}, end


def read(data):
    number, flags, *counts = struct.unpack(">HHHHHH", data[:12])
    made = {"id": number, "rcode": flags & 15, "flags": [text for text, bit in (("qr", 0x8000), ("aa", 0x400), ("tc", 0x200), ("rd", 0x100), ("ra", 0x80), ("ad", 0x20), ("cd", 0x10)) if flags & bit], "opcode": flags >> 11 & 15}
    at = 12
    made["question"] = []
    for _ in range(counts[0]):
        name, at = name_at(data, at)
        made["question"].append([name, *struct.unpack(">HH", data[at:at + 4])])
        at += 4
    for section, count in zip(("answer", "authority", "additional"), counts[1:]):
        made[section] = []
        for _ in range(count):
            one, at = record(data, at)
            made[section].append(one)
    made["left"] = len(data) - at
    made["long"] = len(data)
    return made


def ask(step, address, wait=1.0):
    """What comes back, as a tree; nothing where nothing comes."""
    data = packet(step)
    try:
        if step.get("tcp"):
            with socket.create_connection(address, timeout=wait) as peer:
                answers = []
                for _ in range(step.get("times", 1)):
                    peer.sendall(struct.pack(">H", step.get("length", len(data))) + data)
                for _ in range(step.get("times", 1)):
                    length = struct.unpack(">H", exactly(peer, 2))[0]
                    answers.append(read(exactly(peer, length)))
                return {"code": 200, "body": answers[0] if len(answers) == 1 else answers}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.settimeout(wait)
            peer.sendto(data, address)
            return {"code": 200, "body": read(peer.recvfrom(65535)[0])}
    except (OSError, EOFError) as error:
        return {"code": 0, "body": "closed" if isinstance(error, (EOFError, ConnectionError)) else "nothing"}
    except (ValueError, IndexError, struct.error) as error:
        return {"code": -1, "body": f"cannot be read: {error}"}


def exactly(peer, count):
    data = b""
    while len(data) < count:
        some = peer.recv(count - len(data))
        if not some:
            raise EOFError
        data += some
    return data


def made_up(data, tcp):
    """An answer to any query: the first label says which."""
    number, flags, count = struct.unpack(">HHH", data[:6])
    name, end = name_at(data, 12)
    kind = struct.unpack(">H", data[end:end + 2])[0]
    question = data[12:end + 4]
    first = name.split(".")[0].lower()
    code = {"nx": 3, "fail": 2, "refused": 5, "notimp": 4}.get(first, 0)
    records = []
    rr = lambda kind, value, ttl=300, owner=b"\xc0\x0c": owner + struct.pack(">HHIH", kind, 1, ttl, len(value)) + value
    if first == "silent":
        return None
    if code == 0 and first not in ("empty", "trunc") or first == "trunc" and tcp:
        if first == "alias":
            records.append(rr(5, labels("target.example.org")))
            if kind in (1, 28):
                records.append(rr(kind, bytes([192, 0, 2, 9]) if kind == 1 else ipaddress.ip_address("2001:db8::9").packed, owner=labels("target.example.org")))
        elif kind == 1:
            records += [rr(1, bytes([192, 0, 2, n]), 0 if first == "short" else 300) for n in range(1, 40 if first == "many" else 2)]
        elif kind == 28 and first != "four":
            records.append(rr(28, ipaddress.ip_address("2001:db8::1").packed))
        elif kind == 16:
            records.append(rr(16, b"\x05hello"))
        elif kind == 15:
            records.append(rr(15, struct.pack(">H", 10) + labels("mail.example.org")))
    authority = b""
    if not records and code in (0, 3) and first != "trunc":
        authority = rr(6, labels("ns.example.org") + labels("root.example.org") + struct.pack(">IIIII", 1, 7200, 1800, 86400, 60), 60, labels("example.org"))
    flags = 0x8180 | flags & 0x100 | code | (0x200 if first == "trunc" and not tcp else 0)
    return struct.pack(">HHHHHH", number, flags, 1, len(records), 1 if authority else 0, 0) + question + b"".join(records) + authority


class Datagrams(socketserver.BaseRequestHandler):
    def handle(self):
        data, peer = self.request
        answer = made_up(data, False)
        if answer:
            peer.sendto(answer, self.client_address)


class Streams(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            while True:
                length = struct.unpack(">H", exactly(self.request, 2))[0]
                answer = made_up(exactly(self.request, length), True)
                if answer:
                    self.request.sendall(struct.pack(">H", len(answer)) + answer)
        except (EOFError, OSError):
            pass


if __name__ == "__main__":
    socketserver.ThreadingMixIn.daemon_threads = True
    at = (sys.argv[1], 53)
    tcp = type("Tcp", (socketserver.ThreadingMixIn, socketserver.TCPServer), {"allow_reuse_address": True})(at, Streams)
    threading.Thread(target=tcp.serve_forever, daemon=True).start()
    type("Udp", (socketserver.ThreadingMixIn, socketserver.UDPServer), {})(at, Datagrams).serve_forever()
