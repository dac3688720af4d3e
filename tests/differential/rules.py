"""The rig of validation rules: definitions of the rig `custom` whose schemas have rules in CEL (`x-kubernetes-validations`).

A rule speaks of the fields of the schema that it stands at. Most are well typed and cheap; some are wrong in one way or another, and are asked of
dry runs, so that the objects of a seed meet rules that were accepted. What the schemas leave unbounded decides whether rules are too expensive.
"""
import copy
import json
import re

import custom
from custom import certificates, named, places, at, fixtures  # noqa: F401 (the driver's)

BATCH = 40
KEY = "x-kubernetes-validations"
WRONG = ["", " ", "self.", "self.nope > 1", "nope(self)", "1", "self + ", "'a' == 1", "self.all(x, ", "oldSelf.nope", "self == null", "has(self)", "dyn(self) > 1", "size(self) > 0", "true ||\n false", "[1, 'a'].size() > 0", "self.metadata.labels.size() > 0", "self.exists(x)", "'a'.matches('(')",
         "duration('x') > duration('1h')", "timestamp('x') == timestamp('y')", "'%d'.format(['a']) == ''", "self.includes(1)", "int('a') > 1", "type(self) == nope", "authorizer.group('').resource('pods').check('get').allowed()", "self in self", "!self", "-self > 0", "'\\q' == ''", "true ? 1 : 'a'", "{1: 'a', 'b': 2}.size() > 0"]
TEXTS = ["'a'", "'abc'", "''", "'b'", "'10%'", "'a b'", "\"a\"", "r'a'", "'é'", "'1.2.3.4'", "'2020-01-01T00:00:00Z'"]
PATTERNS = ["'^a'", "'^[a-z]+$'", "r'\\d+'", "'(?i)^A'", "'a$'"]
MERGE = {"Content-Type": "application/merge-patch+json"}
REASONS = ["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"]


class Schemas(custom.Schemas):
    """Schemas with more bounds, so that rules are affordable, and with names that must be escaped."""

    def name(self, letter):
        name = super().name(letter)
        return self.r.choice([name] * 12 + [f"{name}-x", f"{name}.y", f"{name}__z", f"{name}/w", f"{self.count}{letter}"])

    def string(self, depth):
        letter, made = super().string(depth)
        if self.often(0.6):
            made.setdefault("maxLength", self.r.choice([5, 20, 64, 300]))
        return letter, made

    def list(self, letter, items, **more):
        letter, made = super().list(letter, items, **more)
        if self.often(0.75):
            made.setdefault("maxItems", self.r.choice([3, 10, 64]))
        return letter, made

    def map(self, depth):
        letter, made = super().map(depth)
        if self.often(0.75):
            made.setdefault("maxProperties", self.r.choice([3, 10, 64]))
        return letter, made


def escaped(name):
    if name[0].isdigit():
        return None
    for sign, word in (("__", "underscores"), (".", "dot"), ("-", "dash"), ("/", "slash")):
        name = name.replace(sign, f"\0{word}\0")
    return name.replace("\0", "__")


class Rules:
    """Makes rules for a schema."""

    def __init__(self, rng):
        self.r, self.depth = rng, 0

    def often(self, chance):
        return self.r.random() < chance

    def holds(self, schema, value, depth=0):
        """An expression over a value that is true or false."""
        one = self.simple(schema, value, depth)
        if depth < 2 and self.often(0.3):
            other = self.simple(schema, value, depth + 1)
            one = self.r.choice([f"{one} && {other}", f"{one} || {other}", f"!({one})", f"({one}) == ({other})", f"({one}) ? {other} : true"])
        return one

    def simple(self, schema, value, depth):
        if schema.get("nullable") and self.often(0.3):
            return f"{value} == null || {self.typed(schema, value, depth)}"
        return self.typed(schema, value, depth)

    def typed(self, schema, v, depth):
        pick = self.r.choice
        if schema.get("x-kubernetes-int-or-string"):
            return pick([f"type({v}) == int ? {v} > {pick([0, 1, 80])} : {v}.endsWith('%')", f"{v} == {pick(['1', '80', repr('10%')])}", f"{v} + 1 > 2", f"string({v}) == '10%'", f"type({v}) == string || {v} < 100", f"int({v}) > 1", f"{v} in [1, 80]", f"dyn({v}) == 'a'"])
        type_ = schema.get("type")
        if type_ == "string":
            return self.text(schema, v)
        if type_ == "integer":
            return pick([f"{v} {pick(['>', '<', '>=', '<=', '==', '!='])} {pick([0, 1, 2, 3, 5, 10])}", f"{v} % 2 == {pick([0, 1])}", f"{v} in [0, 1, 2, 3]", f"10 / {v} > 1", f"{v} * {v} < 1000", f"string({v}) == '1'", f"{v} + 9223372036854775807 > 0", f"double({v}) < 3.5", f"-{v} < 0", f"{v} > 1.0", f"uint({v}) > 1u", f"quantity(string({v})).isGreaterThan(quantity('2'))"])
        if type_ == "number":
            return pick([f"{v} {pick(['>', '<', '>=', '=='])} {pick(['0.0', '1.5', '2.0', '10.0'])}", f"int({v}) == 2", f"{v} / 2.0 < 3.0", f"string({v}) != '1.5'", f"{v} == 2.0 || {v} < 1.0", f"{v} in [0.0, 1.0, 2.0]"])
        if type_ == "boolean":
            return pick([v, f"!{v}", f"{v} == true", f"string({v}) == 'true'"])
        if type_ == "array":
            return self.of_list(schema, v, depth)
        if type_ == "object" and isinstance(schema.get("additionalProperties"), dict):
            return self.of_map(schema, v, depth)
        if schema.get("x-kubernetes-embedded-resource"):
            return pick([f"{v}.kind == 'Pod'", f"{v}.metadata.name == 'a'", f"has({v}.metadata.generateName)", f"{v}.apiVersion.contains('/')", f"has({v}.metadata)", f"{v} == {v}"])
        if type_ == "object" and schema.get("properties"):
            return self.of_object(schema, v, depth)
        return f"{v} == {v}"

    def text(self, schema, v):
        pick, format_ = self.r.choice, schema.get("format")
        if format_ in ("date-time", "datetime", "date") and format_ != "datetime":
            return pick([f"{v} > timestamp('2019-01-01T00:00:00Z')", f"{v}.getFullYear() == 2020", f"string({v}) != ''", f"{v} + duration('1h') > {v}", f"{v}.getHours('Europe/Berlin') > 3"])
        if format_ == "duration":
            return pick([f"{v} < duration('2h')", f"{v}.getMinutes() > 5", f"string({v}) == '3600s'", f"{v} == duration('60m')"])
        if format_ == "byte":
            return pick([f"{v} == b'a'", f"size({v}) < 3", f"string({v}) == 'a'"])
        text = pick(TEXTS)
        return pick([f"{v} {pick(['==', '!=', '<', '>='])} {text}", f"size({v}) {pick(['>', '<'])} {pick([0, 1, 3])}", f"{v}.startsWith({text})", f"{v}.contains({text})", f"{v}.matches({pick(PATTERNS)})", f"{v} in [{text}, 'x']", f"{v}.lowerAscii() == {text}",
                     f"{v}.split('').size() < 4", f"int({v}) > 1", f"{v}.replace('a', 'b') != {v}", f"{v}.find('[a-z]') == 'a'", f"{v}.findAll('[a-z]').size() > 1", f"{v}.substring(0, 1) == 'a'", f"{v}.charAt(1) == 'b'", f"{v}.indexOf('b') >= 0", f"{v}.trim() == {v}", f"{v} + 'a' > 'b'", f"isURL({v}) && url({v}).getScheme() == 'https'",
                     f"isIP({v}) || isCIDR({v})", f"quantity({v}).isLessThan(quantity('1Gi'))", f"isQuantity({v})", f"'%s-%s'.format([{v}, 'a']) == 'a-a'", f"!format.dns1123Label().validate({v}).hasValue()", f"{v}.upperAscii().reverse() == 'A'", f"strings.quote({v}) == '\"a\"'", f"isSemver({v})", f"duration({v}) > duration('1s')", f"bytes({v}).size() > 2", f"double({v}) > 0.5"])

    def of_list(self, schema, v, depth):
        pick, items = self.r.choice, schema["items"]
        self.depth += 1
        x = f"x{self.depth}"
        inner = self.holds(items, x, depth + 1)
        one = pick([f"{v}.all({x}, {inner})", f"{v}.exists({x}, {inner})", f"{v}.exists_one({x}, {inner})", f"{v}.filter({x}, {inner}).size() > 0", f"{v}.map({x}, {inner}).size() < 3", f"size({v}) < {pick([1, 2, 3])}", f"size({v}) == 0 || {self.holds(items, v + '[0]', depth + 1)}", f"{v} == {v}", f"({v} + {v}).size() > 2", f"{v}.all(i{x}, {x}, i{x} < 2)", f"{v}.all({x}, {v}.all(y{x}, {x} == y{x}))",
                    f"{v}[1] == {v}[0]", f"{v} in [{v}]", f"{v}.exists({x}, {x} in {v})"])
        if items.get("type") in ("string", "integer", "number") and self.often(0.3):
            one = pick([f"{v}.isSorted()", f"{v}.max() == {v}.min()", f"{v}.indexOf({v}[0]) == 0", f"{v}.distinct().size() == {v}.size()", f"{v}.sort() == {v}", f"sets.contains({v}, {v})", f"{v}.slice(0, 1) == {v}"])
        self.depth -= 1
        return one

    def of_map(self, schema, v, depth):
        pick, values = self.r.choice, schema["additionalProperties"]
        self.depth += 1
        k = f"k{self.depth}"
        inner = self.holds(values, f"{v}[{k}]", depth + 1)
        one = pick([f"{v}.all({k}, {inner})", f"{v}.exists({k}, {inner})", f"{v}.all({k}, {self.text({}, k)})", f"'a' in {v}", f"size({v}) < 2", f"!('a' in {v}) || {self.holds(values, v + '.a', depth + 1)}", f"has({v}.a)", f"{v} == {v}", f"{self.holds(values, v + repr(['b']), depth + 1)}", f"{v}[?'a'].hasValue()", f"{v}.transformMap({k}, y{k}, 1).size() > 0"])
        self.depth -= 1
        return one

    def of_object(self, schema, v, depth):
        names = [name for name in schema["properties"] if escaped(name)]
        if not names:
            return f"{v} == {v}"
        name = self.r.choice(names)
        field, inner = f"{v}.{escaped(name)}", schema["properties"][name]
        rest = self.holds(inner, field, depth + 1)
        return self.r.choice([f"!has({field}) || {rest}"] * 4 + [f"has({field}) && {rest}"] * 2 + [rest, f"has({field})", f"{v} == {v}", f"{v}.?{escaped(name)}.hasValue()"])

    def rule(self, schema, wrong, root):
        expression = self.holds(schema, "self")
        if root and self.often(0.3):
            expression = self.r.choice(["self.metadata.name.startsWith('a')", "has(self.metadata.generateName)", "self.kind == 'Thing'", "!has(self.spec) || " + expression])
        old = self.often(0.25)
        if old:
            expression = self.r.choice(["self == oldSelf", f"({expression}) || self == oldSelf", expression.replace("self", "oldSelf"), "type(self) == type(oldSelf)", "self != oldSelf"])
        if wrong and self.often(0.6):
            expression = self.r.choice(WRONG)
        made = {"rule": expression}
        if old and self.often(0.3):
            made["optionalOldSelf"] = True
            if self.often(0.8):
                made["rule"] = self.r.choice(["oldSelf.hasValue()", "oldSelf.orValue(self) == self", "!oldSelf.hasValue() || self == oldSelf.value()", "oldSelf.optMap(o, o == self).orValue(true)"])
        if self.often(0.3):
            made["message"] = self.r.choice(["must be so", " trimmed ", "é"] + ["", " ", "two\nlines"] * wrong)
        if self.often(0.3):
            texts = ["'told'", "'name ' + string(1 + 1)", "''", "'  '", "'a' + '\\n' + 'b'", "string(1 / 0)", "['a'][1]", "'%d things'.format([3])"]
            texts += ["self", "'got ' + self"] * (schema.get("type") == "string" and not schema.get("format") and not schema.get("nullable")) + ["string(self)"] * (schema.get("type") == "integer") + ["'size ' + string(size(self))"] * (schema.get("type") == "array")
            made["messageExpression"] = self.r.choice(texts + ["", " ", "1", "self.nope", "oldSelf", "(", "string(self)"] * wrong)
        if self.often(0.25):
            made["reason"] = self.r.choice(REASONS + ["x", ""] * wrong)
        if self.often(0.25) and schema.get("type") == "object":
            names = list(schema.get("properties", {}))
            paths = [f".{name}" for name in names if not set(name) & set("./[]'")] + [f"['{name}']" for name in names] + [".a", "['a']"] * ("additionalProperties" in schema)
            paths += ["", "nope", ".nope", ".a.b", "[0]", "['", ".", "['\\q']", " "] * wrong
            if paths:
                made["fieldPath"] = self.r.choice(paths)
        return made


def without_rules(tree):
    if isinstance(tree, dict):
        return {key: without_rules(value) for key, value in tree.items() if key != KEY}
    return [without_rules(value) for value in tree] if isinstance(tree, list) else tree


class Script(custom.Script):
    def __init__(self, seed):
        super().__init__(seed)
        self.r.seed(f"{seed} rules")
        self.schemas, self.rules = Schemas(self.r), Rules(self.r)
        self.spec = self.schemas.object(0)[1]
        self.spec.pop("x-kubernetes-map-type", None)
        self.status_schema = self.schemas.object(1)[1]
        if "scale" in self.subresources:
            self.spec["properties"]["replicas"] = {"type": "integer"}
        self.with_rules(self.spec, wrong=False)
        self.with_rules(self.status_schema, wrong=False)

    def with_rules(self, root, wrong, whole=False):
        """Puts rules at some places of a schema."""
        schemas = [path for path in places(root) if isinstance(at(root, path), dict) and (not path or path[-1] not in ("properties", "default")) and "default" not in path and not set(path) & {"allOf", "anyOf", "oneOf", "not", KEY}]
        for _ in range(self.r.choice([1, 1, 2, 3])):
            path = self.r.choice(schemas)
            one = at(root, path)
            if not (one.get("type") or one.get("x-kubernetes-int-or-string") or wrong):
                continue
            made = self.rules.rule(one, wrong, whole and not path)
            if not wrong and self.never(root, path, made["rule"]):
                continue
            one.setdefault(KEY, []).append(made)
        return root

    @staticmethod
    def never(root, path, rule):
        """Whether a transition rule stands where items are not known again."""
        return "oldSelf" in rule and any(part == "items" and at(root, path[:i]).get("x-kubernetes-list-type") != "map" for i, part in enumerate(path))

    def odd_schema(self, body):
        if self.often(0.3):
            return super().odd_schema(body)
        body = copy.deepcopy(body)
        root = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        self.with_rules(root, wrong=True, whole=True)
        return body

    def definition(self):
        body = super().definition()
        if self.often(0.3):
            self.with_rules(body["spec"]["versions"][0]["schema"]["openAPIV3Schema"], wrong=False, whole=True)
        return body

    def stricter(self):
        """A definition whose rules come when there are objects: what was stored before and does not change is only warned of."""
        if self.namespaced:
            self.step("POST", "/api/v1/namespaces", {"metadata": {"name": "{ns}"}}, setup=True)
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        self.subresources.pop("scale", None)
        self.with_rules(self.spec, wrong=False)
        after = self.definition()
        before = without_rules(after)
        made = self.step("POST", definitions, before)
        self.step("GET", self.collection, needs=made, until=200)
        stored = self.step("POST", self.collection, self.object(), needs=made)
        # that the new schema is in force is told by a subresource that the old definition has not
        version = after["spec"]["versions"][0]
        version["subresources"] = {**version.get("subresources", {}), "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}}
        changed = self.step("PATCH", f"{definitions}/things.{{id}}.example.org", {"spec": {"versions": [version]}}, headers=MERGE, needs=stored)
        self.step("GET", self.path + "/scale", needs=changed, until=200, after=True)
        for _ in range(self.r.randint(3, 5)):
            how, query = self.r.choice(["label", "label", "put", "one", "one", "apply", "create"]), self.query()
            if how == "label":
                self.step("PATCH", self.path, {"metadata": {"labels": {"l": self.r.choice("xyz")}}}, query, headers=MERGE, needs=changed)
            elif how == "put":
                self.step("PUT", self.path, None, query, **{"from": stored}, edits=self.edits(), needs=changed)
            elif how == "one":
                key = self.r.choice(sorted(self.spec["properties"]))
                self.step("PATCH", self.path, {"spec": {key: copy.deepcopy(self.schemas.value(self.spec["properties"][key]))}}, query, headers=MERGE, needs=changed)
            elif how == "apply":
                self.step("PATCH", self.path, self.object(), ["fieldManager=one", "force=true"], headers={"Content-Type": "application/apply-patch+yaml"}, needs=changed)
            else:
                body = self.object()
                body["metadata"]["name"] = "b"
                self.step("POST", self.collection, body, [*query, "dryRun=All"], needs=changed)
        self.step("DELETE", f"{definitions}/things.{{id}}.example.org", after=True)
        return self.steps

    def play(self):
        if self.often(0.25):
            return self.stricter()
        # what is wrong in one way or another is asked of dry runs first
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        body = self.definition()
        for _ in range(self.r.choice([1, 2, 3])):
            self.step("POST", definitions, self.odd_schema(body), ["dryRun=All"])
        return super().play()


def script(seed):
    return Script(seed).play()


def normal(step, answer, names, asked):
    """The object types of a rule have a name of the moment."""
    return json.loads(re.sub(r"selfType\d+", "selfType", json.dumps(custom.normal(step, answer, names, asked))))


def kinds(step, ours, theirs):
    return sorted({re.sub(r"\.properties\.\S*?(?=x-kubernetes-validations)", ".", one) for one in custom.kinds(step, ours, theirs)})
