//! Which form a client sends and wants: media types with `as=Table;v=v1;g=meta.k8s.io`.

use crate::http::status::{ApiError, Result};

/// How an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

/// What is made of the object before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Transform {
    #[default]
    Whole,
    /// `meta.k8s.io/v1` `Table`.
    Table,
    /// `PartialObjectMetadata` or its list.
    Metadata,
}

/// The version of `meta.k8s.io` that a form is of. Both are the same but for their name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FormVersion {
    #[default]
    V1,
    V1Beta1,
}

impl FormVersion {
    /// The group and version of tables and partial objects.
    pub fn api_version(self) -> &'static str {
        match self {
            FormVersion::V1 => "meta.k8s.io/v1",
            FormVersion::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }

    fn of(name: &str) -> Option<FormVersion> {
        match name {
            "v1" => Some(FormVersion::V1),
            "v1beta1" => Some(FormVersion::V1Beta1),
            _ => None,
        }
    }
}

/// What the response is to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accept {
    pub encoding: Encoding,
    pub transform: Transform,
    /// Of the form that `transform` makes.
    pub version: FormVersion,
    /// Whether the form is named as one of a list: `Some(true)` is `PartialObjectMetadataList`. None where it goes for both.
    pub of_list: Option<bool>,
    pub pretty: bool,
}

impl Encoding {
    /// The media type of a body.
    pub fn media_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    fn of_media_type(name: &str) -> Option<Encoding> {
        match name {
            "application/json" | "application/*" | "*/*" | "" => Some(Encoding::Json),
            "application/yaml" => Some(Encoding::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Encoding::Protobuf),
            _ => None,
        }
    }
}

const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// What a list is written as too, when it is a watch.
const STREAMED: &str = ", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

impl Accept {
    /// Reads an `Accept` header; the first clause that can be met wins, as upstream's order of clients' preference.
    ///
    /// # Errors
    /// `406` when no clause can be met.
    pub fn parse(header: Option<&str>) -> Result<Accept> {
        Accept::choose(header, true, "")
    }

    /// As `parse`, of a collection.
    pub fn of_collection(header: Option<&str>) -> Result<Accept> {
        Accept::choose(header, true, STREAMED)
    }

    /// As `parse`, of what has no tables.
    pub fn without_tables(header: Option<&str>) -> Result<Accept> {
        Accept::choose(header, false, "")
    }

    /// Refuses what a custom resource is not written as.
    pub fn no_such_form() -> ApiError {
        ApiError::no_such_form(ACCEPTED)
    }

    fn choose(header: Option<&str>, tables: bool, more: &str) -> Result<Accept> {
        let header = header.unwrap_or_default();
        if header.trim().is_empty() {
            return Ok(Accept::default());
        }
        // a form that nothing has is refused in other words than a media type that nobody writes
        let mut formed = false;
        for clause in header.split(',') {
            let mut parts = clause.split(';').map(str::trim);
            let Some(encoding) = parts.next().and_then(Encoding::of_media_type) else {
                continue;
            };
            let mut accept = Accept {
                encoding,
                ..Accept::default()
            };
            let (mut wanted, mut group, mut version) = (None, None, None);
            for part in parts {
                match part.split_once('=') {
                    Some(("as", v)) => wanted = Some(v),
                    Some(("g", v)) => group = Some(v),
                    Some(("v", v)) => version = Some(v),
                    Some(("pretty", v)) => accept.pretty = v != "0",
                    _ => {}
                }
            }
            let version = version.map_or(Some(FormVersion::V1), FormVersion::of);
            let meta = group.is_none_or(|g| g == "meta.k8s.io") && version.is_some();
            accept.version = version.unwrap_or_default();
            accept.of_list = match wanted {
                Some("PartialObjectMetadata") => Some(false),
                Some("PartialObjectMetadataList") => Some(true),
                _ => None,
            };
            accept.transform = match wanted {
                None => Transform::Whole,
                Some("Table") if meta && tables && encoding != Encoding::Protobuf => Transform::Table,
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") if meta => Transform::Metadata,
                Some(_) => {
                    formed = true;
                    continue;
                }
            };
            return Ok(accept);
        }
        match formed {
            true => Err(Accept::no_such_form()),
            false => Err(ApiError::not_acceptable(&format!("{ACCEPTED}{more}"))),
        }
    }
}

/// How a body is written.
///
/// # Errors
/// `415` for a media type that is not known.
pub fn body_encoding(content_type: Option<&str>) -> Result<Encoding> {
    let name = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    match name {
        // curl -d sends this without being asked
        "application/x-www-form-urlencoded" => Ok(Encoding::Json),
        "text/yaml" | "application/x-yaml" => Ok(Encoding::Yaml),
        name => Encoding::of_media_type(name).ok_or_else(|| {
            ApiError::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: {ACCEPTED}"
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_clause_that_can_be_met_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let cases = [
            (None, Some((Encoding::Json, Transform::Whole))),
            (Some(kubectl), Some((Encoding::Json, Transform::Table))),
            (
                Some("application/cbor, application/vnd.kubernetes.protobuf"),
                Some((Encoding::Protobuf, Transform::Whole)),
            ),
            (
                Some("application/json;as=Table;v=v1beta1;g=meta.k8s.io"),
                Some((Encoding::Json, Transform::Table)),
            ),
            (Some("application/json;as=Table;v=v2;g=meta.k8s.io"), None),
            (Some("application/json;as=Unknown"), None),
            (Some("text/html"), None),
            (Some("text/html, */*;q=0.8"), Some((Encoding::Json, Transform::Whole))),
        ];
        for (header, want) in cases {
            let got = Accept::parse(header).ok().map(|a| (a.encoding, a.transform));
            assert_eq!(got, want, "{header:?}");
        }
    }
}
