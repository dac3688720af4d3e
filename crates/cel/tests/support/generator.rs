//! Random questions from a seed: expressions of a type, now and then of a wrong one, over a resource with fields of every kind.

use serde_json::{Value as Json, json};

/// A question; the same for the same seed.
pub fn question(seed: u64) -> Json {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d);
    let depth = 1 + random.below(4);
    let kinds = [
        Kind::Bool,
        Kind::Bool,
        Kind::Int,
        Kind::Text,
        Kind::Double,
        Kind::Ints,
        Kind::Texts,
        Kind::Time,
        Kind::Span,
    ];
    let kind = random.pick(&kinds);
    let expr = random.expr(kind, depth);
    let mut question =
        json!({ "expr": expr, "schema": schema(), "self": data(&mut random), "oldSelf": data(&mut random) });
    if random.one_in(4) {
        question["root"] = true.into();
    }
    if random.one_in(6) {
        question["optionalOldSelf"] = true.into();
    }
    if random.one_in(10) {
        question["limit"] = (1 + random.below(200)).into();
    }
    question
}

fn schema() -> Json {
    json!({
        "type": "object",
        "required": ["n"],
        "properties": {
            "n": { "type": "integer" },
            "d": { "type": "number" },
            "b": { "type": "boolean" },
            "s": { "type": "string", "maxLength": 20 },
            "e": { "type": "string", "enum": ["one", "three"] },
            "t": { "type": "string", "format": "date-time" },
            "u": { "type": "string", "format": "duration" },
            "y": { "type": "string", "format": "byte" },
            "p": { "x-kubernetes-int-or-string": true },
            "namespace": { "type": "string" },
            "with-dash": { "type": "integer", "nullable": true },
            "ints": { "type": "array", "items": { "type": "integer" }, "maxItems": 10 },
            "texts": { "type": "array", "items": { "type": "string", "maxLength": 8 }, "x-kubernetes-list-type": "set" },
            "maps": {
                "type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": { "type": "object", "required": ["k"], "properties": { "k": { "type": "string" }, "v": { "type": "integer" } } }
            },
            "m": { "type": "object", "additionalProperties": { "type": "integer" } },
            "o": { "type": "object", "properties": { "x": { "type": "integer" }, "s": { "type": "string" } } },
            "any": { "x-kubernetes-preserve-unknown-fields": true }
        }
    })
}

fn data(random: &mut Random) -> Json {
    let doubles = [0.5, 2.0, -1.25, 1e10];
    let texts = ["", "abc", "a-b", "\u{e9}t\u{e9}", "10.0.0.1"];
    let ints: Vec<u64> = (0..random.below(5)).map(|n| n * 3 % 7).collect();
    let set = ["a", "bc", "d\u{e9}f"];
    let maps = [json!({ "k": "a", "v": 1 }), json!({ "k": "b" })];
    let mut data = json!({
        "n": random.below(20) as i64 - 5,
        "d": random.pick(&doubles),
        "b": random.one_in(2),
        "s": random.pick(&texts),
        "e": "one",
        "t": "2024-02-29T12:30:15.25Z",
        "u": "1h30m",
        "y": "YWJj",
        "p": random.pick(&[true, false]),
        "namespace": "default",
        "ints": ints,
        "texts": &set[..random.below(4) as usize],
        "maps": &maps[..random.below(3) as usize],
        "m": { "x": 1, "y": 2 },
        "o": { "x": random.below(3), "s": "in" },
        "any": { "free": [1, "2"] }
    });
    data["p"] = if random.one_in(2) { json!(7) } else { json!("50%") };
    if random.one_in(3) {
        let names = ["s", "d", "o", "ints", "m", "p", "t", "b"];
        data.as_object_mut().unwrap().remove(random.pick(&names));
    }
    if random.one_in(3) {
        data["with-dash"] = if random.one_in(2) { json!(3) } else { Json::Null };
    }
    data
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Time,
    Span,
    Ints,
    Texts,
    Optional,
    Any,
}

/// A generator of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn expr(&mut self, kind: Kind, depth: u64) -> String {
        // a wrong type now and then
        let all = [
            Kind::Bool,
            Kind::Int,
            Kind::Double,
            Kind::Text,
            Kind::Ints,
            Kind::Any,
            Kind::Uint,
            Kind::Bytes,
        ];
        let kind = if self.one_in(40) { self.pick(&all) } else { kind };
        if depth == 0 {
            return self.leaf(kind);
        }
        if self.one_in(10) {
            let condition = self.expr(Kind::Bool, depth - 1);
            let (yes, no) = (self.expr(kind, depth - 1), self.expr(kind, depth - 1));
            return format!("({condition} ? {yes} : {no})");
        }
        let templates = templates(kind);
        let template = self.pick(templates);
        self.fill(template, depth - 1)
    }

    /// Puts expressions in the places of a template: `$i` an int, `$s` a text, and so on.
    fn fill(&mut self, template: &str, depth: u64) -> String {
        let mut out = String::new();
        let mut signs = template.chars();
        while let Some(c) = signs.next() {
            if c != '$' {
                out.push(c);
                continue;
            }
            let kind = match signs.next() {
                Some('b') => Kind::Bool,
                Some('i') => Kind::Int,
                Some('u') => Kind::Uint,
                Some('d') => Kind::Double,
                Some('s') => Kind::Text,
                Some('y') => Kind::Bytes,
                Some('t') => Kind::Time,
                Some('n') => Kind::Span,
                Some('I') => Kind::Ints,
                Some('S') => Kind::Texts,
                Some('o') => Kind::Optional,
                _ => Kind::Any,
            };
            out.push_str(&self.expr(kind, depth));
        }
        out
    }

    fn leaf(&mut self, kind: Kind) -> String {
        let leaves: &[&str] = match kind {
            Kind::Bool => &[
                "true",
                "false",
                "self.b",
                "has(self.s)",
                "has(self.o.x)",
                "has(self.with__dash__dash)",
                "has(self.m.x)",
            ],
            Kind::Int => &[
                "0",
                "1",
                "-3",
                "7",
                "self.n",
                "self.o.x",
                "oldSelf.n",
                "self.m.x",
                "self.with__dash__dash",
                "9223372036854775807",
                "self.ints[0]",
                "self.m['y']",
            ],
            Kind::Uint => &["0u", "3u", "18446744073709551615u", "uint(self.n)"],
            Kind::Double => &["0.0", "1.5", "-2e3", "self.d", "double(self.n)"],
            Kind::Text => &[
                "''",
                "'a'",
                "'a-b'",
                "self.s",
                "self.e",
                "self.__namespace__",
                "self.texts[0]",
                "'\u{e9}t\u{e9}'",
                "self.maps[0].k",
            ],
            Kind::Bytes => &["b''", "b'abc'", "self.y"],
            Kind::Time => &[
                "self.t",
                "timestamp('2020-01-01T00:00:00Z')",
                "timestamp('2021-06-05T04:03:02.5+02:00')",
            ],
            Kind::Span => &["self.u", "duration('1h')", "duration('-90s')"],
            Kind::Ints => &[
                "[]",
                "[1, 2]",
                "self.ints",
                "[self.n]",
                "self.maps.map(e, has(e.v) ? e.v : 0)",
            ],
            Kind::Texts => &["self.texts", "['x', 'y']", "[self.s]", "self.maps.map(e, e.k)"],
            Kind::Optional => &[
                "optional.none()",
                "optional.of(1)",
                "self.?n",
                "self.o.?x",
                "self.ints[?2]",
                "self.m[?'z']",
            ],
            Kind::Any => &[
                "self.p",
                "null",
                "dyn(1)",
                "self",
                "self.o",
                "self.m",
                "self.maps",
                "{'a': 1}",
                "oldSelf",
            ],
        };
        self.pick(leaves).to_owned()
    }
}

fn templates(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Bool => &[
            "$b && $b",
            "$b || $b",
            "!$b",
            "$i == $i",
            "$s == $s",
            "$I == $I",
            "$S == $S",
            "$a == $a",
            "$i < $i",
            "$d >= $d",
            "$s < $s",
            "$i in $I",
            "$s in $S",
            "$i in [1, 2, 3]",
            "$s in ['a', 'b']",
            "$I.all(x, x < $i)",
            "$S.exists(x, x == $s)",
            "$I.exists_one(x, x > $i)",
            "$s.startsWith($s)",
            "$s.contains($s)",
            "$s.matches('^[a-z]+$')",
            "$s.endsWith($s)",
            "self.m.all(k, self.m[k] > $i)",
            "$t < $t",
            "$n > $n",
            "$o.hasValue()",
            "$I.isSorted()",
            "$i != $i",
            "$y == $y",
            "sets.contains($I, $I)",
            "sets.intersects($S, $S)",
            "sets.equivalent($I, $I)",
            "isIP($s)",
            "isQuantity($s)",
            "isURL($s)",
            "self.maps == oldSelf.maps",
            "self.texts == oldSelf.texts",
            "self.any == oldSelf.any",
            "self == oldSelf",
            "type($a) == int",
            "$I.all(i, v, i <= v)",
            "$S.exists(i, v, v == $s)",
            "self.m.all(k, v, v > 0)",
            "$i < $d",
            "quantity('1k').isGreaterThan(quantity('5'))",
            "cidr('10.0.0.0/8').containsIP($s)",
            "$I.includes($i)",
            "$s.matches($s)",
            "self.m.exists(k, k == $s)",
            "bool($s)",
            "format.dns1123Label().validate($s).hasValue()",
            "ip($s).family() == 4",
            "semver('1.2.3').compareTo(semver('1.10.0')) < 0",
        ],
        Kind::Int => &[
            "$i + $i",
            "$i - $i",
            "$i * $i",
            "$i / $i",
            "$i % $i",
            "-$i",
            "size($s)",
            "$I.size()",
            "$S.size()",
            "self.m.size()",
            "$I[$i]",
            "$I.sum()",
            "$I.max()",
            "$I.min()",
            "$I.indexOf($i)",
            "$s.indexOf($s)",
            "$s.lastIndexOf($s)",
            "int($d)",
            "int($s)",
            "int($t)",
            "$t.getFullYear()",
            "$t.getDayOfWeek()",
            "$n.getSeconds()",
            "$o.orValue($i)",
            "self.?n.orValue($i)",
            "self.m[$s]",
            "int($u)",
            "$t.getHours('Europe/Berlin')",
            "$y.size()",
            "self.maps.size()",
            "self.m.x + $i",
            "$I.filter(x, x > $i).size()",
            "$I.first().orValue($i)",
            "$I.last().value()",
            "self.maps[0].v",
            "dyn($i) + dyn($i)",
            "self.o.x",
            "[$i, $i][$i]",
            "{'a': $i}.a",
            "{'a': $i}[$s]",
            "($b ? self.o : oldSelf.o).x",
            "self.ints[self.o.x]",
            "$S.indexOf($s)",
            "$n.getHours()",
            "$t.getMonth()",
        ],
        Kind::Uint => &[
            "$u + $u", "$u - $u", "uint($i)", "uint($d)", "$u * $u", "$u / $u", "uint($s)",
        ],
        Kind::Double => &[
            "$d + $d",
            "$d / $d",
            "$d * $d",
            "double($i)",
            "double($s)",
            "-$d",
            "double($u)",
        ],
        Kind::Text => &[
            "$s + $s",
            "string($i)",
            "string($d)",
            "string($b)",
            "string($t)",
            "string($n)",
            "$s.lowerAscii()",
            "$s.upperAscii()",
            "$s.trim()",
            "$s.replace($s, $s)",
            "$s.replace('a', $s)",
            "$s.substring($i)",
            "$s.substring($i, $i)",
            "$S.join($s)",
            "$S.join()",
            "$s.charAt($i)",
            "$s.find('[a-z]+')",
            "'%d of %s'.format([$i, $s])",
            "'%.2f %e'.format([$d, $d])",
            "$S[$i]",
            "$s.split($s)[0]",
            "string($y)",
            "'%s'.format([$a])",
            "strings.quote($s)",
            "string($u)",
            "{'k': $s}.k",
            "self.maps[$i].k",
            "$S.max()",
            "$s.replace($s, $s, $i)",
        ],
        Kind::Bytes => &["bytes($s)", "$y + $y"],
        Kind::Time => &["$t + $n", "$t - $n", "timestamp($s)", "timestamp($i)"],
        Kind::Span => &["$n + $n", "$n - $n", "$t - $t", "duration($s)"],
        Kind::Ints => &[
            "$I + $I",
            "$I.filter(x, x > $i)",
            "$I.map(x, x + $i)",
            "$I.map(x, x > $i, x * 2)",
            "[$i, $i]",
            "$I.reverse()",
            "$I.distinct()",
            "$I.sort()",
            "$I.slice($i, $i)",
            "[$I, $I].flatten()",
            "$I.sortBy(x, -x)",
            "lists.range($i)",
            "$I.transformList(i, v, i + v)",
            "$I.transformList(i, v, i > 0, v)",
            "self.ints + $I",
            "[?self.?n, $i]",
            "$S.map(x, size(x))",
            "self.maps.map(e, e.?v.orValue(0))",
            "$I.map(x, $I.size())",
            "self.m.map(k, self.m[k]).sort()",
        ],
        Kind::Texts => &[
            "$S + $S",
            "$S.filter(x, x != $s)",
            "$S.map(x, x + $s)",
            "[$s, $s]",
            "$s.split($s)",
            "$s.split($s, $i)",
            "$s.findAll('[a-z]')",
            "$S.sort()",
            "$S.distinct()",
            "$S.sortBy(x, size(x))",
            "self.texts + $S",
            "self.m.map(k, k).sort()",
            "$s.findAll('.', $i)",
        ],
        Kind::Optional => &[
            "optional.of($i)",
            "optional.ofNonZeroValue($i)",
            "$o.or($o)",
            "$I[?$i]",
            "$o.optMap(x, x + $i)",
            "$o.optFlatMap(x, optional.of(x))",
            "self.?o.?x",
            "$I.first()",
            "$I.last()",
            "self.m[?$s]",
        ],
        Kind::Any => &[
            "dyn($i)",
            "dyn($s)",
            "[$s].map(x, {'k': x})",
            "{$s: $i}",
            "{'a': $i, ?'b': $o}",
            "self.m.transformMap(k, v, v + 1)",
            "$S.transformMapEntry(i, v, {v: i})",
            "type($i)",
            "self.maps + oldSelf.maps",
            "self.maps.filter(e, e.k == $s)",
            "$o",
            "$t",
            "$d",
            "$y",
            "url('https://a.b:80/c?d=e').getHostname()",
            "quantity('1.5Gi').add(1)",
            "cidr('10.1.2.3/8').masked()",
            "ip('::1')",
        ],
    }
}
