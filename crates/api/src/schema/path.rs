//! The way to a value within a document, kept on the stack and put into words only when something is wrong there.

/// Bytes of a key that are shown: a path is told as often as there is something wrong below it.
const KEY_SHOWN: usize = 1024;

/// One step and those before it.
#[derive(Debug, Clone, Copy)]
pub enum Path<'p> {
    /// The document itself.
    Root,
    /// A named field.
    Key(&'p Path<'p>, &'p str),
    /// A key of a map, which Go's errors do not name.
    Entry(&'p Path<'p>, &'p str),
    /// An item of a list, from 0.
    Index(&'p Path<'p>, usize),
    /// A key of a map, in brackets.
    Subscript(&'p Path<'p>, &'p str),
}

impl Path<'_> {
    fn write(&self, out: &mut String, indexes: bool) {
        match self {
            Path::Root => {}
            Path::Key(parent, key) => {
                parent.write(out, indexes);
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(shown(key));
            }
            Path::Entry(parent, key) => {
                parent.write(out, indexes);
                if indexes {
                    out.push('.');
                    out.push_str(shown(key));
                }
            }
            Path::Subscript(parent, key) => {
                parent.write(out, indexes);
                out.push_str(&format!("[{}]", shown(key)));
            }
            Path::Index(parent, index) => {
                parent.write(out, indexes);
                if indexes {
                    out.push_str(&format!("[{index}]"));
                }
            }
        }
    }

    /// Such as `spec.containers[0].name`; without indexes and the keys of maps, as Go's decoder has it, `spec.containers.name`.
    pub fn text(&self, indexes: bool) -> String {
        let mut out = String::new();
        self.write(&mut out, indexes);
        out
    }

    /// Returns whether this is the document itself.
    pub fn is_root(&self) -> bool {
        matches!(self, Path::Root)
    }
}

fn shown(key: &str) -> &str {
    &key[..key.floor_char_boundary(KEY_SHOWN)]
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text(true))
    }
}

impl From<&Path<'_>> for String {
    fn from(path: &Path<'_>) -> String {
        path.text(true)
    }
}
