//! Tables made by the server, as columns: with namespace, kind and labels where they are wanted.

use serde_json::Value;

use super::go;
use super::tabwriter::TabWriter;

/// What is added to a table and left out of it.
#[derive(Debug, Clone, Default)]
pub struct TableOptions {
    pub wide: bool,
    pub no_headers: bool,
    pub with_namespace: bool,
    /// Goes before every name: `deployment.apps`.
    pub kind: Option<String>,
    pub show_labels: bool,
    pub label_columns: Vec<String>,
}

/// Prints tables one after the other; a header comes again only when the columns change.
#[derive(Debug, Default)]
pub struct TablePrinter {
    pub options: TableOptions,
    columns: Vec<Value>,
    header_printed: bool,
}

impl TablePrinter {
    pub(crate) fn new(options: TableOptions) -> TablePrinter {
        TablePrinter {
            options,
            ..TablePrinter::default()
        }
    }

    /// `event` is the kind of a watch event, shown as the first column.
    pub fn print(&mut self, table: &Value, event: Option<&str>, out: &mut TabWriter) {
        let empty = Vec::new();
        let columns = table["columnDefinitions"].as_array().unwrap_or(&empty);
        let rows = table["rows"].as_array().unwrap_or(&empty);
        // Tables of watch events leave out columns that were told before.
        if !columns.is_empty() && *columns != self.columns {
            self.columns.clone_from(columns);
            self.header_printed = false;
        }
        if rows.is_empty() {
            return;
        }
        let shown: Vec<bool> = self
            .columns
            .iter()
            .map(|c| self.options.wide || c["priority"].as_i64().unwrap_or(0) == 0)
            .collect();
        if !self.header_printed && !self.options.no_headers {
            out.line(&self.header(&shown, event.is_some()));
        }
        self.header_printed = true;
        let name_column = self
            .columns
            .iter()
            .position(|c| c["format"] == "name" && c["type"] == "string");
        for row in rows {
            let mut cells: Vec<String> = Vec::new();
            if let Some(event) = event {
                cells.push(format!("{event:<8}"));
            }
            let meta = &row["object"]["metadata"];
            if self.options.with_namespace {
                cells.push(meta["namespace"].as_str().unwrap_or_default().to_owned());
            }
            let values = row["cells"].as_array().unwrap_or(&empty);
            for (i, value) in values.iter().enumerate().take(self.columns.len()) {
                if !shown[i] {
                    continue;
                }
                let text = cell(value);
                cells.push(match &self.options.kind {
                    Some(kind) if name_column == Some(i) => format!("{kind}/{text}"),
                    _ => text,
                });
            }
            for label in &self.options.label_columns {
                cells.push(meta["labels"][label].as_str().unwrap_or_default().to_owned());
            }
            if self.options.show_labels {
                cells.push(labels(&meta["labels"]));
            }
            out.line(&cells.join("\t"));
        }
    }

    fn header(&self, shown: &[bool], with_event: bool) -> String {
        let mut names: Vec<String> = Vec::new();
        if with_event {
            names.push("EVENT".to_owned());
        }
        if self.options.with_namespace {
            names.push("NAMESPACE".to_owned());
        }
        for (column, _) in self.columns.iter().zip(shown).filter(|(_, shown)| **shown) {
            names.push(column["name"].as_str().unwrap_or_default().to_uppercase());
        }
        for label in &self.options.label_columns {
            let last = label.rsplit('/').next().unwrap_or(label);
            names.push(last.to_uppercase());
        }
        if self.options.show_labels {
            names.push("LABELS".to_owned());
        }
        names.join("\t")
    }
}

/// `a=1,b=2` or `<none>`.
pub fn labels(labels: &Value) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}

/// Only the first line of a text is shown, and no control characters.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        other => go::sprint(other),
    };
    match text.find(['\u{c}', '\n', '\r']) {
        Some(at) => format!("{}...", escape(&text[..at])),
        None => escape(&text),
    }
}

/// The escape character as a sign that does nothing to the terminal.
pub fn escape(text: &str) -> String {
    text.replace('\u{1b}', "^[").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> Value {
        json!({
            "columnDefinitions": [
                {"name": "Name", "type": "string", "format": "name", "priority": 0},
                {"name": "Restarts", "type": "integer", "priority": 0},
                {"name": "IP", "type": "string", "priority": 1},
            ],
            "rows": [
                {"cells": ["a", 1, "10.0.0.1"], "object": {"metadata": {"namespace": "x", "labels": {"k": "v", "x.io/b": "c"}}}},
                {"cells": ["long-name", 12, null], "object": {"metadata": {"namespace": "y"}}},
            ]
        })
    }

    fn print(options: TableOptions) -> String {
        let mut out = TabWriter::table();
        TablePrinter::new(options).print(&table(), None, &mut out);
        out.flush()
    }

    #[test]
    fn columns_of_lower_priority_are_for_wide() {
        assert_eq!(
            print(TableOptions::default()),
            "NAME        RESTARTS\na           1\nlong-name   12\n"
        );
        let wide = TableOptions {
            wide: true,
            ..TableOptions::default()
        };
        assert_eq!(
            print(wide),
            "NAME        RESTARTS   IP\na           1          10.0.0.1\nlong-name   12         \n"
        );
    }

    #[test]
    fn namespace_kind_and_labels_are_added() {
        let options = TableOptions {
            with_namespace: true,
            kind: Some("pod".into()),
            show_labels: true,
            label_columns: vec!["x.io/b".into()],
            ..TableOptions::default()
        };
        assert_eq!(
            print(options),
            "NAMESPACE   NAME            RESTARTS   B     LABELS\nx           pod/a           1          c     k=v,x.io/b=c\ny           pod/long-name   12               <none>\n"
        );
    }

    #[test]
    fn a_header_comes_once() {
        let mut out = TabWriter::table();
        let mut printer = TablePrinter::default();
        printer.print(&table(), None, &mut out);
        let mut next = table();
        next["columnDefinitions"] = json!([]);
        printer.print(&next, None, &mut out);
        assert_eq!(out.flush().matches("NAME").count(), 1);
    }
}
