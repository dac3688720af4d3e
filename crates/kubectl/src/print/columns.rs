//! `-o custom-columns`: a header and a path for each column.

use serde_json::Value;

use super::go;
use super::table::escape;
use super::tabwriter::TabWriter;
use crate::error::{Result, fail};
use crate::jsonpath::{JsonPath, relaxed};

#[derive(Debug, Clone)]
pub(crate) struct CustomColumns {
    headers: Vec<String>,
    paths: Vec<JsonPath>,
    no_headers: bool,
}

impl CustomColumns {
    /// `NAME:.metadata.name,IMAGE:.spec.image`.
    pub fn parse(spec: &str, no_headers: bool) -> Result<CustomColumns> {
        if spec.is_empty() {
            return fail("custom-columns format specified but no custom columns given");
        }
        let mut columns = Vec::new();
        for part in spec.split(',') {
            match part.split_once(':') {
                Some((header, path)) => columns.push((header, path)),
                None => {
                    return fail(format!(
                        "unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"
                    ));
                }
            }
        }
        CustomColumns::new(columns, no_headers)
    }

    /// A line of headers and a line of paths.
    pub fn template(text: &str) -> Result<CustomColumns> {
        const FORM: &str =
            "Expected format is one line of space separated headers, one line of space separated column specs.";
        let mut lines = text.lines();
        let Some(headers) = lines.next() else {
            return fail(format!("invalid template, missing header line. {FORM}"));
        };
        let Some(paths) = lines.next() else {
            return fail(format!("invalid template, missing spec line. {FORM}"));
        };
        let headers: Vec<&str> = headers.split_whitespace().collect();
        let paths: Vec<&str> = paths.split_whitespace().collect();
        if headers.len() != paths.len() {
            return fail(format!(
                "number of headers ({}) and field specifications ({}) don't match",
                headers.len(),
                paths.len()
            ));
        }
        CustomColumns::new(headers.into_iter().zip(paths).collect(), false)
    }

    fn new(columns: Vec<(&str, &str)>, no_headers: bool) -> Result<CustomColumns> {
        let mut headers = Vec::new();
        let mut paths = Vec::new();
        for (header, path) in columns {
            headers.push(header.to_owned());
            paths.push(JsonPath::parse(&relaxed(path)?)?.allow_missing(true));
        }
        Ok(CustomColumns {
            headers,
            paths,
            no_headers,
        })
    }

    pub(crate) fn print(&self, objects: &[&Value]) -> Result<String> {
        let mut out = TabWriter::table();
        if !self.no_headers {
            out.line(&self.headers.join("\t"));
        }
        for object in objects {
            let mut cells = Vec::new();
            for path in &self.paths {
                let found = path.find(object)?;
                let texts: Vec<String> = found.iter().flatten().map(|v| escape(&go::sprint(v))).collect();
                cells.push(if texts.is_empty() {
                    "<none>".to_owned()
                } else {
                    texts.join(",")
                });
            }
            out.line(&cells.join("\t"));
        }
        Ok(out.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_column_shows_what_its_path_finds() {
        let columns = CustomColumns::parse("NAME:.metadata.name,IMAGES:.spec.c[*].image,NO:.x", false).unwrap();
        let object = json!({"metadata": {"name": "a"}, "spec": {"c": [{"image": "x"}, {"image": "y"}]}});
        assert_eq!(
            columns.print(&[&object]).unwrap(),
            "NAME   IMAGES   NO\na      x,y      <none>\n"
        );
        assert!(CustomColumns::parse("NAME", false).is_err());
    }
}
