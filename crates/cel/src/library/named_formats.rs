//! Named formats: `format.dns1123Label().validate(text)`.

use std::any::Any;

use crate::cost::{Actual, Estimate, Estimated, REGEX, Range, STRING};
use crate::environment::Declarations;
use crate::value::{Opaque, Outcome, Value, no_overload};

/// A format: what it is called, the length of the expression that stands for it in costs, and what is wrong with a text.
#[derive(Debug)]
struct Format {
    function: &'static str,
    name: &'static str,
    expression: u64,
    problems: fn(&str) -> Vec<String>,
}

/// A value of the formats' type.
#[derive(Debug, Clone, Copy)]
struct Named(&'static Format);

/// A name with the dash at its end, to which something is still to come, as one without.
fn prefix(text: &str, problems: fn(&str) -> Vec<String>) -> Vec<String> {
    match text.strip_suffix('-').filter(|rest| !rest.is_empty()) {
        Some(rest) => problems(&format!("{rest}a")),
        None => problems(text),
    }
}

fn schema_format(text: &str, format: &str, why: &str) -> Vec<String> {
    if api::schema::structural::formats::holds(format, text) {
        Vec::new()
    } else {
        vec![why.to_owned()]
    }
}

static FORMATS: [Format; 13] = [
    Format {
        function: "dns1123Label",
        name: "DNS1123Label",
        expression: 30,
        problems: api::names::dns1123_label_errors,
    },
    Format {
        function: "dns1123Subdomain",
        name: "DNS1123Subdomain",
        expression: 60,
        problems: api::names::dns1123_subdomain_errors,
    },
    Format {
        function: "dns1035Label",
        name: "DNS1035Label",
        expression: 30,
        problems: api::names::dns1035_label_errors,
    },
    Format {
        function: "qualifiedName",
        name: "QualifiedName",
        expression: 60,
        problems: api::names::qualified_name_errors,
    },
    Format {
        function: "dns1123LabelPrefix",
        name: "DNS1123LabelPrefix",
        expression: 30,
        problems: |text| prefix(text, api::names::dns1123_label_errors),
    },
    Format {
        function: "dns1123SubdomainPrefix",
        name: "DNS1123SubdomainPrefix",
        expression: 60,
        problems: |text| prefix(text, api::names::dns1123_subdomain_errors),
    },
    Format {
        function: "dns1035LabelPrefix",
        name: "DNS1035LabelPrefix",
        expression: 30,
        problems: |text| prefix(text, api::names::dns1035_label_errors),
    },
    Format {
        function: "labelValue",
        name: "LabelValue",
        expression: 40,
        problems: api::names::label_value_errors,
    },
    Format {
        function: "uri",
        name: "URI",
        expression: 1103,
        problems: |text| {
            super::urls::request_problem(text)
                .iter()
                .map(ToString::to_string)
                .collect()
        },
    },
    Format {
        function: "uuid",
        name: "uuid",
        expression: 70,
        problems: |text| schema_format(text, "uuid", "does not match the UUID format"),
    },
    Format {
        function: "byte",
        name: "byte",
        expression: 84,
        problems: |text| schema_format(text, "byte", "invalid base64"),
    },
    Format {
        function: "date",
        name: "date",
        expression: 71,
        problems: |text| schema_format(text, "date", "invalid date"),
    },
    Format {
        function: "datetime",
        name: "datetime",
        expression: 71,
        problems: |text| schema_format(text, "datetime", "invalid datetime"),
    },
];

impl Opaque for Named {
    fn type_name(&self) -> &str {
        "kubernetes.NamedFormat"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn equals(&self, other: &dyn Opaque) -> Option<bool> {
        let other = other.as_any().downcast_ref::<Named>()?;
        Some(self.0.name == other.0.name)
    }

    fn show(&self) -> String {
        self.0.name.into()
    }
}

pub(super) fn declare(into: &mut Declarations) {
    macro_rules! constants {
        ($($at:literal)*) => {
            [$((|_| Ok(Value::opaque(Named(&FORMATS[$at])))) as crate::environment::Implementation),*]
        };
    }
    let makes = constants!(0 1 2 3 4 5 6 7 8 9 10 11 12);
    for (format, make) in FORMATS.iter().zip(makes) {
        let name = format!("format.{}", format.function);
        into.global(&name, &name, "-> kubernetes.NamedFormat", make);
    }
    into.global(
        "format.named",
        "format-named",
        "string -> optional(kubernetes.NamedFormat)",
        |args| match args[0].as_str() {
            Some(name) => {
                let found = FORMATS.iter().find(|f| f.function == name);
                Ok(found.map_or(Value::Optional(None), |f| Value::some(Value::opaque(Named(f)))))
            }
            None => no_overload(),
        },
    );
    into.member(
        "validate",
        "format-validate",
        "kubernetes.NamedFormat, string -> optional(list(string))",
        validate,
    );
}

fn validate<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (Some(format), Some(text)) = (args[0].downcast::<Named>(), args[1].as_str()) else {
        return no_overload();
    };
    let problems = (format.0.problems)(text);
    Ok(if problems.is_empty() {
        Value::Optional(None)
    } else {
        Value::some(Value::texts(problems))
    })
}

pub(super) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    match call.function {
        "format.named" => Some(1),
        "validate" if call.args.len() >= 2 => {
            let format = call.args[0].as_ref().ok()?.downcast::<Named>()?;
            let text = ((1.0 + call.own_size(1) as f64) * STRING).ceil() as u64;
            Some(text * (format.0.expression as f64 * REGEX).ceil() as u64)
        }
        _ => None,
    }
}

pub(super) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    match call.function {
        "format.named" => Some(Estimate::cost(Range::fixed(1))),
        "validate" => {
            let text = call.size(call.args.first()?);
            Some(Estimate::cost(text.factor(STRING).factor(128.0 * REGEX)))
        }
        _ => None,
    }
}
