"""The rig of custom resources: a generated structural schema, and scripts about objects of it, some of whose values are odd.

A definition is created, sometimes with something odd in it; once it is served its objects are created, updated, patched, applied, listed. A
name of a property tells its type (`s1` is a string), so that differences of one type are one group. Rules in CEL are not generated.
"""
import copy
import json
import random
import re

import api
from api import certificates, named, normal  # noqa: F401 (the driver's)

BATCH = 40
FORMATS = ["date-time", "date", "email", "ipv4", "ipv6", "cidr", "uri", "uuid", "uuid3", "uuid4", "uuid5", "hostname", "byte", "duration", "password", "mac", "isbn", "isbn10", "isbn13", "creditcard", "ssn",
           "hexcolor", "rgbcolor", "datetime", "bsonobjectid", "k8s-short-name", "k8s-long-name", "int32", "int64", "float", "double", "binary", "nope"]
STRINGS = ["", "a", "b", "abc", "A", "é", "a b", "2020-01-01", "2020-01-01T00:00:00Z", "2020-01-01T00:00:00+02:00", "2020-01-01 00:00:00", "a@b.c", "a@b", "1.2.3.4", "01.2.3.4", "::1", "::ffff:1.2.3.4", "10.0.0.0/8", "10.0.0.1/33", "https://a/b", "/a", "a:b", "x y",
           "123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-42d3-a456-426614174000", "123E4567-E89B-52D3-A456-426614174000", "123e4567e89b12d3a456426614174000", "a.b", "A.B.", "-a", "YQ==", "YQ", "1h", "1h30m", "5 minutes", "1d", "5", "PT1H", "00:11:22:33:44:55", "00-11-22-33-44-55",
           "978-3-16-148410-0", "316148410X", "4111111111111111", "4111 1111 1111 1111", "111-22-3333", "#fff", "fff", "#ffggff", "rgb(1,2,3)", "rgb(256,0,0)", "507f1f77bcf86cd799439011", "a" * 63, "a" * 64, "a" * 300, "1Gi", "100m", "10%", "true", "null", "😀", "\u0000", "2020-13-01", "1.5", "a\nb"]
NUMBERS = [0, 1, -1, 2, 3, 5, 10, 100, 2147483647, 2147483648, -2147483649, 9007199254740993, "@raw:9223372036854775807", "@raw:9223372036854775808", 1.5, 0.1, -0.5, "@raw:1e3", "@raw:1.0", "@raw:1E-5", "@raw:-0", "@raw:1e400", "@raw:3.00"]
PATTERNS = ["^a", "^[a-z]+$", "b$", "^\\d+$", ".", "^(a|b)*$", "\\S", "^.{2,5}$", "(?i)^a", "\\p{L}", "^$"]
ODD = [None, None, None, "", "x", 0, 5, -1, True, [], {}, [None], {"a": None}, ["a"], 1.5, [[]], [{}]]
ODD_KEYS = ["type", "properties", "additionalProperties", "items", "default", "nullable", "pattern", "format", "enum", "minimum", "maximum", "minLength", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type", "x-kubernetes-int-or-string",
            "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource", "allOf", "anyOf", "oneOf", "not", "title", "description", "uniqueItems", "$ref", "definitions", "dependencies", "patternProperties", "additionalItems", "id", "example", "externalDocs", "multipleOf",
            "minItems", "maxItems", "minProperties", "maxProperties", "exclusiveMinimum", "exclusiveMaximum", "deprecated"]
ODD_VALUES = {"type": ["string", "integer", "object", "array", "number", "boolean", "null", "", "int"], "format": FORMATS, "pattern": PATTERNS + ["(", "[a-", "(?=a)", "\\1", "a{1001}"], "x-kubernetes-list-type": ["atomic", "set", "map", "", "x"], "x-kubernetes-map-type": ["atomic", "granular", "", "x"],
              "required": [[], ["a"], ["s1", "s1"], [""]], "x-kubernetes-list-map-keys": [[], ["a"], ["s1"], ["s1", "s1"]], "items": [{"type": "string"}, [{"type": "string"}], {}], "additionalProperties": [True, False, {"type": "string"}, {}], "properties": [{}, {"a": {"type": "string"}}, {"a": {}}, {"": {"type": "string"}}],
              "default": ["a", 1, {}, [], True, None], "allOf": [[], [{}], [{"type": "string"}], [{"minimum": 1}], [{"default": 1}], [{"properties": {"a": {"minLength": 1}}}], [{"x-kubernetes-preserve-unknown-fields": True}]], "not": [{}, {"type": "string"}, {"minLength": 1}, {"properties": {"zz": {}}}]}


class Schemas:
    """Makes structural schemas and objects for them."""

    def __init__(self, rng):
        self.r, self.count = rng, 0

    def often(self, chance):
        return self.r.random() < chance

    def name(self, letter):
        self.count += 1
        return f"{letter}{self.count}"

    def schema(self, depth=0):
        """A letter for the type, and the schema."""
        makers = [(self.string, 4), (self.integer, 3), (self.number, 1), (self.boolean, 1), (self.int_or_string, 1)]
        if depth < 3:
            makers += [(self.object, 3), (self.map, 1), (self.array, 2), (self.set, 1), (self.keyed, 2), (self.unknown, 1), (self.embedded, 0.4)]
        letter, made = self.r.choices([one for one, _ in makers], [weight for _, weight in makers])[0](depth)
        if self.often(0.12):
            made["nullable"] = True
        if self.often(0.05):
            made["description"], made["title"] = "d", "t"
        if self.often(0.08):
            self.junction(letter, made)
        if self.often(0.2) and letter != "r":
            made["default"] = self.value(made)
        return letter, made

    def string(self, _):
        made = {"type": "string"}
        if self.often(0.3):
            made["format"] = self.r.choice(FORMATS)
        if self.often(0.15):
            made["pattern"] = self.r.choice(PATTERNS)
        if self.often(0.15):
            made["minLength"] = self.r.choice([0, 1, 2, 5])
        if self.often(0.15):
            made["maxLength"] = self.r.choice([0, 1, 3, 10, 64])
        if self.often(0.15):
            made["enum"] = self.r.sample(STRINGS[:12], self.r.randint(1, 3))
        return "s", made

    def numeric(self, letter, type_, formats):
        made = {"type": type_}
        if self.often(0.3):
            made["format"] = self.r.choice(formats)
        if self.often(0.25):
            made["minimum"] = self.r.choice([0, 1, -5, 2])
            if self.often(0.3):
                made["exclusiveMinimum"] = self.often(0.8)
        if self.often(0.25):
            made["maximum"] = self.r.choice([10, 100, 3, 65535])
            if self.often(0.3):
                made["exclusiveMaximum"] = self.often(0.8)
        if self.often(0.1):
            made["multipleOf"] = self.r.choice([2, 5, 1, 3]) if letter == "i" else self.r.choice([0.5, 0.1, 2])
        if self.often(0.1):
            made["enum"] = self.r.choice([[0, 1, 2], [5], [1, 10, 100]])
        return letter, made

    def integer(self, _):
        return self.numeric("i", "integer", ["int32", "int64", "int32", "float"])

    def number(self, _):
        return self.numeric("n", "number", ["float", "double", "int64"])

    def boolean(self, _):
        return "b", {"type": "boolean"}

    def int_or_string(self, _):
        return "x", {"x-kubernetes-int-or-string": True, **({"anyOf": [{"type": "integer"}, {"type": "string"}]} if self.often(0.4) else {}), **({"pattern": "^[0-9]+%?$"} if self.often(0.2) else {})}

    def object(self, depth):
        properties = {}
        for _ in range(self.r.randint(1, 4)):
            letter, made = self.schema(depth + 1)
            properties[self.name(letter)] = made
        made = {"type": "object", "properties": properties}
        if self.often(0.3):
            made["required"] = self.r.sample(sorted(properties), 1)
        if self.often(0.1):
            made["x-kubernetes-map-type"] = self.r.choice(["atomic", "granular"])
        if self.often(0.1):
            made["x-kubernetes-preserve-unknown-fields"] = True
        if self.often(0.08):
            made["minProperties"] = self.r.choice([0, 1, 2])
        if self.often(0.08):
            made["maxProperties"] = self.r.choice([1, 2, 5])
        return "o", made

    def map(self, depth):
        made = {"type": "object", "additionalProperties": self.schema(depth + 1)[1]}
        if self.often(0.2):
            made["maxProperties"] = self.r.choice([1, 2])
        return "m", made

    def list(self, letter, items, **more):
        made = {"type": "array", "items": items, **more}
        if self.often(0.15):
            made["minItems"] = self.r.choice([0, 1, 2])
        if self.often(0.15):
            made["maxItems"] = self.r.choice([1, 2, 4])
        return letter, made

    def array(self, depth):
        return self.list("a", self.schema(depth + 1)[1], **({"x-kubernetes-list-type": "atomic"} if self.often(0.3) else {}))

    def set(self, depth):
        items = self.r.choice([self.string, self.integer])(depth)[1]
        return self.list("t", items, **{"x-kubernetes-list-type": "set"})

    def keyed(self, depth):
        _, items = self.object(depth + 1)
        items.pop("x-kubernetes-map-type", None)
        keys = []
        for _ in range(self.r.choice([1, 1, 2])):
            letter, key = self.r.choice([self.string, self.integer])(depth)
            name = self.name(letter)
            if self.often(0.3):
                key["default"] = self.value(key)
            elif self.often(0.95):
                items.setdefault("required", []).append(name)
            items["properties"][name] = key
            keys.append(name)
        return self.list("k", items, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys})

    def unknown(self, _):
        return "u", self.r.choice([{"x-kubernetes-preserve-unknown-fields": True}, {"type": "object", "x-kubernetes-preserve-unknown-fields": True}])

    def embedded(self, _):
        return "r", {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}

    def junction(self, letter, schema):
        if letter == "s":
            some = self.r.choice([[{"minLength": 1}, {"maxLength": 3}], [{"pattern": "^a"}, {"enum": ["b", "abc"]}], [{"format": "ipv4"}, {"format": "ipv6"}]])
        elif letter in "in":
            some = [{"minimum": 2}, {"maximum": 0}]
        elif letter == "o":
            some = [{"required": [name]} for name in list(schema["properties"])[:2]]
        else:
            return
        how = self.r.choice(["allOf", "anyOf", "oneOf", "not"])
        schema[how] = some[0] if how == "not" else some

    def value(self, schema, depth=0):
        """A value that mostly fits a schema."""
        if self.often(0.03) or schema.get("nullable") and self.often(0.15):
            return None
        if "enum" in schema and self.often(0.85):
            return self.r.choice(schema["enum"])
        if schema.get("x-kubernetes-embedded-resource"):
            return self.r.choice([{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"a": "b"}}, "spec": {"x": 1}}, {"apiVersion": "v1", "kind": "X"}, {"kind": "X"}, {"apiVersion": "v1", "kind": "X", "metadata": {"name": "-", "labels": {"a": 1}, "creationTimestamp": None, "x": 1}},
                                  {"apiVersion": "a/b/c", "kind": "-"}])
        if schema.get("x-kubernetes-int-or-string"):
            return self.r.choice([1, 80, "80", "10%", "a", "", -1])
        type_ = schema.get("type")
        if type_ == "string":
            for _ in range(6):
                one = self.r.choice(STRINGS if "format" in schema or self.often(0.2) else ["a", "b", "abc", "ab", "a1", "12", ""])
                if schema.get("minLength", 0) <= len(one) <= schema.get("maxLength", 999):
                    break
            return one
        if type_ in ("integer", "number"):
            for _ in range(6):
                one = self.r.choice(NUMBERS if self.often(0.15) else [0, 1, 2, 3, 5, 10])
                if isinstance(one, str) or schema.get("minimum", -9e9) <= one <= schema.get("maximum", 9e18):
                    break
            return one
        if type_ == "boolean":
            return self.often(0.5)
        if type_ == "array":
            return [self.value(schema["items"], depth + 1) for _ in range(self.r.choice([0, 1, 1, 2, 2, 3]))]
        if type_ == "object" and "additionalProperties" in schema:
            return {key: self.value(schema["additionalProperties"], depth + 1) for key in self.r.sample(["a", "b", "c", "", "a.b", "é"], self.r.choice([0, 1, 1, 2]))}
        if type_ == "object" and "properties" in schema:
            made = {name: self.value(one, depth + 1) for name, one in schema["properties"].items() if self.often(0.75) or name in schema.get("required", ())}
            if self.often(0.08):
                made["unknown"] = self.r.choice([1, "x", None, {"a": 1}])
            return made
        return self.r.choice([{"a": 1}, {}, {"a": {"b": [1, None, {"c": None}]}}, {"apiVersion": "v1"}] + ([] if type_ else [5, "x", [1, "a"], True, 1.5]))


def places(value, path=()):
    yield path
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(one, (*path, key))


class Script(api.Script):
    def __init__(self, seed):
        self.r = random.Random(f"{seed} custom")
        self.steps, self.schemas = [], Schemas(self.r)
        self.namespaced = self.often(0.8)
        self.spec = self.schemas.object(0)[1]
        self.spec.pop("x-kubernetes-map-type", None)
        self.status_schema = self.schemas.object(1)[1]
        self.collection = "/apis/{id}.example.org/v1" + ("/namespaces/{ns}" if self.namespaced else "") + "/things"
        self.path, self.name, self.resource = self.collection + "/a", "a", "things"
        self.subresources = {"status": {}} if self.often(0.5) else {}
        if self.often(0.15):
            self.spec["properties"]["replicas"] = {"type": "integer"}
            self.subresources["scale"] = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", **({"labelSelectorPath": ".status.selector"} if self.often(0.5) else {})}

    def one(self, values):
        """A value of its own: it may be changed later."""
        return copy.deepcopy(self.r.choice(values))

    def definition(self):
        root = {"type": "object", "properties": {"spec": self.spec, "status": self.status_schema}}
        if self.often(0.1):
            root["properties"]["metadata"] = {"type": "object", "properties": {"name": {"type": "string", "maxLength": self.r.choice([1, 5])}}}
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": root}}
        if self.subresources:
            version["subresources"] = self.subresources
        if self.often(0.3):
            columns = []
            for name, one in self.spec["properties"].items():
                type_ = one.get("type")
                if type_ in ("string", "integer", "number", "boolean"):
                    columns.append({"name": name.upper(), "type": self.r.choice([type_, "string", "date"] if self.often(0.2) else [type_]), "jsonPath": ".spec." + name, **({"priority": 1} if self.often(0.2) else {}), **({"format": "int32"} if self.often(0.1) else {})})
                elif type_ in ("array", "object"):
                    columns.append({"name": name.upper(), "type": "string", "jsonPath": ".spec." + name + self.r.choice(["", "[0]", "[*]"] if type_ == "array" else ["", ".a"])})
            if self.often(0.3):
                columns.append({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"})
            if columns:
                version["additionalPrinterColumns"] = columns
        if self.often(0.15):
            leaf = next((name for name, one in self.spec["properties"].items() if one.get("type") in ("string", "integer", "boolean")), None)
            if leaf:
                version["selectableFields"] = [{"jsonPath": ".spec." + leaf}]
        names = {"plural": "things", "kind": "Thing", **({"singular": "thing", "listKind": "ThingList"} if self.often(0.5) else {}), **({"shortNames": ["th"]} if self.often(0.1) else {})}
        return {"metadata": {"name": "things.{id}.example.org"}, "spec": {"group": "{id}.example.org", "scope": "Namespaced" if self.namespaced else "Cluster", "names": names, "versions": [version],
                                                                          **({"preserveUnknownFields": False} if self.often(0.1) else {})}}

    def odd_schema(self, body):
        """The definition with one to three odd things in it."""
        body = copy.deepcopy(body)
        for _ in range(self.r.choice([1, 1, 2, 3])):
            root = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            schemas = [path for path in places(root) if isinstance(at(root, path), dict) and (not path or path[-1] not in ("properties", "default")) and "default" not in path]
            where = self.r.choice(schemas)
            one = at(root, where)
            if not isinstance(one, dict):
                continue
            if self.often(0.25) and one:
                one.pop(self.r.choice(sorted(one)))
            else:
                key = self.r.choice(ODD_KEYS)
                one[key] = self.one(ODD_VALUES.get(key, ODD) if self.often(0.7) else ODD)
        return body

    def object(self):
        # what a schema offers, as a default or an enum, stands in it too
        value = lambda schema: copy.deepcopy(self.schemas.value(schema))
        made = {"apiVersion": "{id}.example.org/v1", "kind": "Thing", "metadata": {"name": self.name}, "spec": value(self.spec)}
        if self.often(0.4):
            made["status"] = value(self.status_schema)
        if self.often(0.1):
            made[self.r.choice(["unknown", "data"])] = self.one([1, {"a": 1}, None])
        return made

    def odd_object(self):
        made = self.object()
        for _ in range(self.r.choice([0, 1, 1, 2])):
            where = [path for path in places(made) if path and path[0] in ("spec", "status")] if self.often(0.9) else [path for path in places(made) if path]
            path = self.r.choice(where or [("spec",)])
            parent = at(made, path[:-1])
            if self.often(0.15):
                if path[-1] in parent or isinstance(path[-1], int):
                    del parent[path[-1]]
            elif self.often(0.1) and isinstance(path[-1], int):
                parent.append(copy.deepcopy(parent[path[-1]]))
            elif self.often(0.15) and isinstance(path[-1], str):
                parent[path[-1] + "@twice"] = self.one(ODD)
            else:
                parent[path[-1]] = self.one(ODD + STRINGS[:6] + NUMBERS[:6])
        return made

    def edits(self, *_):
        """What makes an object like another one, as a whole or at one place."""
        other = self.odd_object()
        some = [path for path in places(other) if path and path[0] in ("spec", "status")]
        if not some or self.often(0.3):
            return [[[key], "set", other.get(key)] for key in ("spec", "status")]
        path = self.r.choice(some)
        return [[list(path), "set", at(other, path)]]

    def play(self):
        if self.namespaced:
            self.step("POST", "/api/v1/namespaces", {"metadata": {"name": "{ns}"}}, setup=True)
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        body = self.definition()
        if self.often(0.35):
            self.step("POST", definitions, self.odd_schema(body), ["dryRun=All"] + ["fieldValidation=Strict"] * self.often(0.3))
        made = self.step("POST", definitions, body)
        self.step("GET", self.collection, needs=made, until=200)
        merge = {"Content-Type": "application/merge-patch+json"}
        stored = None
        for _ in range(self.r.randint(2, 5)):
            query = self.query()
            how = self.r.choices(["create", "update", "merge", "json", "apply", "status", "scale", "list", "get", "delete", "schema"], [4, 3, 3, 1, 3, 1.5, 1, 1.5, 1, 0.7, 0.7])[0]
            if stored is None and how not in ("apply", "list"):
                how = "create"
            if how == "create":
                step = self.step("POST", self.collection, self.odd_object() if self.often(0.6) else self.object(), query, needs=made)
                stored = stored if stored is not None else step
            elif how == "update":
                if self.often(0.5):
                    self.step("PUT", self.path, None, query, **{"from": stored}, edits=self.edits(), needs=stored)
                else:
                    self.step("PUT", self.path, self.odd_object(), query, needs=made)
            elif how == "merge":
                self.step("PATCH", self.path, api.merge_patch({}, self.edits()) if self.often(0.5) else {"spec": self.odd_object().get("spec")}, query, headers=merge, needs=made)
            elif how == "json":
                self.step("PATCH", self.path, api.json_patch(self.r, self.edits()), query, headers={"Content-Type": "application/json-patch+json"}, needs=made)
            elif how == "apply":
                query = [one for one in query if "fieldManager" not in one] + ["fieldManager=" + self.r.choice(api.MANAGERS)] + ["force=true"] * self.often(0.4)
                stored_now = self.step("PATCH", self.path, self.odd_object() if self.often(0.4) else self.object(), query, headers={"Content-Type": "application/apply-patch+yaml"}, needs=made)
                stored = stored if stored is not None else stored_now
            elif how == "status":
                self.step("PATCH", self.path + "/status", {"status": self.odd_object().get("status"), "spec": {"x": 1}}, query, headers=merge, needs=made)
            elif how == "scale":
                if self.often(0.5):
                    self.step("GET", self.path + "/scale", needs=made)
                else:
                    self.step("PATCH", self.path + "/scale", {"spec": {"replicas": self.r.choice([1, -1, None, "x"])}}, query, headers=merge, needs=made)
            elif how == "list":
                field = self.r.choice(["", "", "?fieldSelector=metadata.name%3Da", "?fieldSelector=spec.x%3Da", "?labelSelector=a%3Db", "?limit=1"])
                self.step("GET", self.collection + field, headers={"Accept": self.r.choice(self.ACCEPT)}, needs=made)
            elif how == "get":
                self.step("GET", self.path, headers={"Accept": self.r.choice(self.ACCEPT[:4])}, needs=made)
            elif how == "delete":
                self.step("DELETE", self.path, self.r.choice([None, {"propagationPolicy": "Foreground"}, {"dryRun": ["All"]}]), needs=made)
            else:
                self.step("PATCH", f"{definitions}/things.{{id}}.example.org", {"spec": {"versions": self.odd_schema(body)["spec"]["versions"]}}, ["dryRun=All"], headers=merge, needs=made)
        self.step("DELETE", f"{definitions}/things.{{id}}.example.org", after=True)
        return self.steps


def at(value, path):
    for part in path:
        value = value[part]
    return value


def fixtures():
    return []


def script(seed):
    return Script(seed).play()


def kinds(step, ours, theirs):
    """As of all objects; properties are called by their types."""
    step = {**step, "path": step["path"].replace("customresourcedefinitions/things.{id}.example.org", "customresourcedefinitions/x")}
    return sorted({masked(one) for one in api.kinds(step, ours, theirs)})


def masked(kind):
    """A group without the schema's own names and depth."""
    kind = re.sub(r"(?<![\w-])([sinbxomatkur])\d+\b", r"\1", kind)
    kind = re.sub(r"spec\.validation\.openAPIV3Schema(\.(properties|items|additionalProperties|allOf|anyOf|oneOf|not))*", "schema", kind)
    kind = re.sub(r"\bdefault\.[^: ]*", "default", kind)
    kind = re.sub(r"(?<=[.\s])(spec|status)(\.[a-z]+_*|_)+(?=[ :.]|$)", r"\1.FIELD", kind)
    return re.sub(r"/v1/(namespaces/\{ns\}/)?things", "", kind).replace("\n", " ")
