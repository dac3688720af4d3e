//! What is said about the built-in types and their fields, packed by `build.rs`: unpacked when a document is asked for,
//! forgotten with it.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/prose.z"));

/// The texts, by type as OpenAPI names it (`io.k8s.api.core.v1.Pod`) and by field.
#[derive(Debug, Default)]
pub struct Prose {
    unpacked: String,
    /// Each text, once.
    texts: Vec<Range<usize>>,
    /// Of each type the fields, its own text under the empty name, and the numbers of their texts.
    types: HashMap<String, Vec<(Range<usize>, usize)>>,
}

impl Prose {
    /// The texts of all built-in types: a megabyte.
    ///
    /// # Errors
    /// When the program's file is damaged.
    pub fn unpack() -> std::io::Result<Prose> {
        let mut prose = Prose::default();
        flate2::read::ZlibDecoder::new(PACKED).read_to_string(&mut prose.unpacked)?;
        let damaged = || std::io::Error::new(std::io::ErrorKind::InvalidData, "the packed prose is damaged");
        let (names, texts) = prose.unpacked.split_once("\n\n").ok_or_else(damaged)?;
        let mut at = names.len() + 2;
        for text in texts.split_terminator('\0') {
            prose.texts.push(at..at + text.len());
            at += text.len() + 1;
        }
        let mut current = None;
        let mut start = 0;
        for line in names.split('\n') {
            let (name, number) = line.split_once('=').ok_or_else(damaged)?;
            let number: usize = number.parse().map_err(|_| damaged())?;
            match name.strip_prefix(' ') {
                None => {
                    let own = (start..start, number);
                    current = Some(prose.types.entry(name.to_owned()).insert_entry(vec![own]));
                }
                Some(field) => {
                    let entry = current.as_mut().ok_or_else(damaged)?;
                    entry.get_mut().push((start + 1..start + 1 + field.len(), number));
                }
            }
            start += line.len() + 1;
        }
        Ok(prose)
    }

    /// What is said about a field, or about the type under the empty name.
    pub fn of(&self, ty: &str, field: &str) -> Option<&str> {
        let fields = self.types.get(ty)?;
        let (_, number) = fields.iter().find(|(name, _)| self.unpacked[name.clone()] == *field)?;
        let text = &self.unpacked[self.texts.get(*number)?.clone()];
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;

    #[test]
    fn types_and_fields_are_explained() {
        let prose = Prose::unpack().unwrap();
        let pod = "io.k8s.api.core.v1.Pod";
        assert!(
            prose
                .of(pod, "")
                .unwrap()
                .starts_with("Pod is a collection of containers")
        );
        assert!(prose.of(pod, "apiVersion").unwrap().starts_with("APIVersion defines"));
        let protocol = prose.of("io.k8s.api.core.v1.ServicePort", "appProtocol").unwrap();
        assert!(
            protocol.contains("\n\n* Kubernetes-defined prefixed names:\n  * 'kubernetes.io/h2c'"),
            "{protocol}"
        );
        assert_eq!((prose.of(pod, "nothing"), prose.of("nothing", "")), (None, None));
        assert!(PACKED.len() < 300 << 10, "{} bytes", PACKED.len());
    }

    #[test]
    fn every_served_kind_and_each_of_its_fields_is_explained() {
        let (schema, prose) = (Schema::builtin(), Prose::unpack().unwrap());
        let mut missing = Vec::new();
        for row in crate::resources::all() {
            let name = schema.open_name(row.type_id).unwrap();
            let fields = schema.json_fields(row.type_id).map(|f| f.name.to_string());
            for field in std::iter::once(String::new()).chain(fields) {
                if prose.of(&name, &field).is_none() {
                    missing.push(format!("{name} {field}"));
                }
            }
        }
        // upstream has nothing to say about this one
        assert_eq!(
            missing,
            ["io.k8s.api.certificates.v1.CertificateSigningRequest metadata"]
        );
    }
}
