//! AdmissionReviews: what a webhook is asked, and what its answer says (`k8s.io/api/admission`, `plugin/webhook/request`).

use std::collections::BTreeMap;

use api::gvk::GroupVersionKind;
use api::schema::Schema;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::json_text;

/// Why an answer is no review, in upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// It is no object: what it is.
    #[error(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {0} into Go value of type struct \
         {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
    )]
    NoObject(&'static str),
    /// It is of a kind or version that is known, and another than that of the question.
    #[error("converting ({given}) to ({wanted}.{KIND}): unknown conversion")]
    Conversion {
        /// Its version and kind.
        given: String,
        /// The version of the question.
        wanted: &'static str,
    },
    /// It is of a kind that nobody knows.
    #[error("no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\"")]
    Unregistered {
        /// The kind.
        kind: String,
        /// The group and version.
        version: String,
    },
    /// `response` is no object.
    #[error("json: cannot unmarshal {found} into Go struct field {KIND}.response of type {version}.AdmissionResponse")]
    Response {
        /// What it is.
        found: &'static str,
        /// The version of the question.
        version: &'static str,
    },
    /// A field of the response has another type.
    #[error("json: cannot unmarshal {found} into Go struct field AdmissionResponse.response.{field} of type {wanted}")]
    Field {
        /// The field.
        field: String,
        /// What its value is.
        found: &'static str,
        /// The type of the field, as Go calls it.
        wanted: String,
    },
    /// The patch is no base64: the place of what is wrong.
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
    /// `status` is no Status.
    #[error("{0}")]
    Status(String),
    /// There is no response.
    #[error("webhook response was absent")]
    Absent,
    /// It answers another question.
    #[error("expected response.uid={wanted:?}, got {found:?}")]
    Uid {
        /// The UID of the question.
        wanted: String,
        /// That of the response.
        found: String,
    },
    /// It does not name its kind and version.
    #[error("expected webhook response of {wanted}, Kind={KIND}, got {found}")]
    Kind {
        /// The group and version of the question.
        wanted: &'static str,
        /// Its group, version and kind.
        found: String,
    },
    /// Its patch and the type of it do not go together.
    #[error("{0}")]
    Patch(&'static str),
}

/// A version of reviews that this server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewVersion {
    V1,
    V1Beta1,
}

const KIND: &str = "AdmissionReview";

impl ReviewVersion {
    /// The version of a name in `admissionReviewVersions`.
    pub fn named(name: &str) -> Option<ReviewVersion> {
        match name {
            "v1" => Some(ReviewVersion::V1),
            "v1beta1" => Some(ReviewVersion::V1Beta1),
            _ => None,
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            ReviewVersion::V1 => "admission.k8s.io/v1",
            ReviewVersion::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }

    fn short(self) -> &'static str {
        match self {
            ReviewVersion::V1 => "v1",
            ReviewVersion::V1Beta1 => "v1beta1",
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    kind: &'static str,
    api_version: &'static str,
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: &'a str,
    #[serde(flatten)]
    described: &'a Value,
    object: &'a Value,
    old_object: &'a Value,
}

/// The text of a review. The objects are null where there are none.
///
/// # Errors
/// When it cannot be written, which no tree is the cause of.
pub fn write(version: ReviewVersion, uid: &str, described: &Value, objects: [&Value; 2]) -> serde_json::Result<Bytes> {
    let [object, old_object] = objects;
    let review = Review {
        kind: KIND,
        api_version: version.api_version(),
        request: Request {
            uid,
            described,
            object,
            old_object,
        },
    };
    serde_json::to_vec(&review).map(Bytes::from)
}

/// The response in a review, decoded.
#[derive(Debug, Default, PartialEq)]
pub struct Response {
    uid: String,
    /// `kind` and `apiVersion` as they were given.
    given: [String; 2],
    pub allowed: bool,
    /// A `metav1.Status`.
    pub status: Option<Value>,
    pub patch: Vec<u8>,
    pub patch_type: Option<String>,
    pub warnings: Vec<String>,
    /// For the record of the request.
    pub audit_annotations: BTreeMap<String, String>,
}

/// Decodes an answer; `None` stands for one without a response.
///
/// # Errors
/// When it is no review of the version that was sent.
pub fn decode(version: ReviewVersion, answer: &Value) -> Result<Option<Response>, ReviewError> {
    let nothing = serde_json::Map::new();
    let object = match answer {
        Value::Null => Some(&nothing),
        other => other.as_object(),
    };
    let Some(review) = object else {
        return Err(ReviewError::NoObject(json_text::kind(answer)));
    };
    let given = ["kind", "apiVersion"].map(|key| match review.get(key) {
        Some(Value::String(text)) => text.clone(),
        _ => String::new(),
    });
    let [kind, api_version] = &given;
    let kind = if kind.is_empty() { KIND } else { kind };
    let own = version.api_version();
    let of = if api_version.is_empty() { own } else { api_version };
    if (kind, of) != (KIND, own) {
        let known = of.starts_with("admission.k8s.io/v1") && kind == KIND || (kind, of) == ("Status", "v1");
        return Err(match known {
            true => {
                let (_, short) = api::gvk::split_api_version(of);
                ReviewError::Conversion {
                    given: format!("{short}.{kind}"),
                    wanted: version.short(),
                }
            }
            false => ReviewError::Unregistered {
                kind: kind.to_owned(),
                version: of.to_owned(),
            },
        });
    }
    let response = match review.get("response") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(map)) => map,
        Some(other) => {
            return Err(ReviewError::Response {
                found: json_text::kind(other),
                version: version.short(),
            });
        }
    };
    let field = |key: &str| response.get(key).filter(|value| !value.is_null());
    let text = |key: &str, of: &str| match field(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(unfit(key, other, of)),
    };
    let patch = text("patch", "[]uint8")?.unwrap_or_default();
    let patch = STANDARD.decode(&patch).map_err(|why| {
        let at = match why {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => patch.len(),
        };
        ReviewError::Base64(at)
    })?;
    Ok(Some(Response {
        uid: text("uid", "types.UID")?.unwrap_or_default(),
        allowed: match field("allowed") {
            None => false,
            Some(Value::Bool(allowed)) => *allowed,
            Some(other) => return Err(unfit("allowed", other, "bool")),
        },
        status: field("status").map(status).transpose()?,
        patch,
        patch_type: text("patchType", &format!("{}.PatchType", version.short()))?,
        warnings: warnings(field("warnings"))?,
        audit_annotations: annotations(field("auditAnnotations"))?,
        given,
    }))
}

fn unfit(field: &str, found: &Value, wanted: &str) -> ReviewError {
    ReviewError::Field {
        field: field.to_owned(),
        found: json_text::kind(found),
        wanted: wanted.to_owned(),
    }
}

fn warnings(list: Option<&Value>) -> Result<Vec<String>, ReviewError> {
    let list = match list {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(unfit("warnings", other, "[]string")),
    };
    let texts = list.iter().map(|item| match item {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        other => Err(unfit("warnings", other, "string")),
    });
    texts.collect()
}

fn annotations(map: Option<&Value>) -> Result<BTreeMap<String, String>, ReviewError> {
    let map = match map {
        None => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(unfit("auditAnnotations", other, "map[string]string")),
    };
    let texts = map.iter().map(|(key, value)| match value {
        Value::Null => Ok((key.clone(), String::new())),
        Value::String(text) => Ok((key.clone(), text.clone())),
        other => Err(unfit("auditAnnotations", other, "string")),
    });
    texts.collect()
}

fn status(tree: &Value) -> Result<Value, ReviewError> {
    if !tree.is_object() {
        return Err(unfit("status", tree, "v1.Status"));
    }
    let schema = Schema::builtin();
    let root = schema.type_for(&GroupVersionKind::new("", "v1", "Status"));
    let root = root.ok_or_else(|| ReviewError::Status("Status has no schema".into()))?;
    // it stands in the review, and is told with the path to it
    let placed = |why: String| match why
        .split_once("Go struct field ")
        .map(|(head, rest)| (head, rest.split_once('.')))
    {
        Some((head, Some((owner, field)))) => format!("{head}Go struct field {owner}.response.status.{field}"),
        _ => why,
    };
    let decoded = schema.decode_value(root, tree.clone());
    let decoded = decoded.map_err(|e| ReviewError::Status(placed(e.to_string())))?;
    let mut status = decoded.value;
    schema.normalize(root, &mut status);
    Ok(status)
}

/// Checks what a webhook may not get wrong.
///
/// # Errors
/// In upstream's words.
pub fn verify(
    version: ReviewVersion,
    uid: &str,
    mutating: bool,
    response: Option<Response>,
) -> Result<Response, ReviewError> {
    let Some(mut response) = response else {
        return Err(ReviewError::Absent);
    };
    if version == ReviewVersion::V1Beta1 {
        // of these nothing was checked when they were the only ones
        if !mutating {
            response.patch.clear();
        }
        response.patch_type = (!response.patch.is_empty()).then(|| JSON_PATCH.to_owned());
        return Ok(response);
    }
    if response.uid != uid {
        return Err(ReviewError::Uid {
            wanted: uid.to_owned(),
            found: response.uid,
        });
    }
    let [kind, api_version] = &response.given;
    if (kind.as_str(), api_version.as_str()) != (KIND, version.api_version()) {
        let (group, short) = api::gvk::split_api_version(api_version);
        return Err(ReviewError::Kind {
            wanted: version.api_version(),
            found: format!("{group}/{short}, Kind={kind}"),
        });
    }
    let wrong = match (mutating, response.patch.is_empty(), &response.patch_type) {
        (true, false, None) => "webhook returned response.patch but not response.patchType",
        (true, true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, false, Some(kind)) if kind.is_empty() => "webhook returned invalid response.patchType of \"\"",
        (false, false, _) => "validating webhook may not return response.patch",
        (false, true, Some(_)) => "validating webhook may not return response.patchType",
        _ => return Ok(response),
    };
    Err(ReviewError::Patch(wrong))
}

/// The one type of patches.
pub const JSON_PATCH: &str = "JSONPatch";

/// The `Status` of a request that a webhook has refused.
pub fn denial(name: &str, status: Option<Value>) -> Value {
    let mut status = status.unwrap_or_else(|| json!({}));
    if status["metadata"].is_null() {
        status["metadata"] = json!({});
    }
    if status["code"].as_i64().is_none_or(|code| code < 400) {
        status["code"] = json!(400);
    }
    if matches!(status["status"].as_str(), None | Some("" | "Success")) {
        status["status"] = json!("Failure");
    }
    let denied = format!("admission webhook {name:?} denied the request");
    let said = |key: &str| status[key].as_str().filter(|text| !text.is_empty());
    let message = match said("message").or_else(|| said("reason")) {
        Some(why) => format!("{denied}: {why}"),
        None => format!("{denied} without explanation"),
    };
    status["message"] = json!(message);
    status["kind"] = json!("Status");
    status["apiVersion"] = json!("v1");
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Value {
        json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response })
    }

    fn read(mutating: bool, answer: &Value) -> Result<Response, ReviewError> {
        let decoded = decode(ReviewVersion::V1, answer)?;
        verify(ReviewVersion::V1, "u", mutating, decoded)
    }

    #[test]
    fn answers_that_are_not_what_they_must_be_are_told_as_upstream_tells_them() {
        let with = |more: Value| {
            let mut response = json!({ "uid": "u", "allowed": true });
            for (key, value) in more.as_object().unwrap() {
                response[key] = value.clone();
            }
            answer(response)
        };
        for (mutating, answer, want) in [
            (true, json!({}), "webhook response was absent"),
            (
                true,
                with(json!({ "uid": "x" })),
                "expected response.uid=\"u\", got \"x\"",
            ),
            (
                false,
                json!({ "response": { "uid": "u" } }),
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=",
            ),
            (
                false,
                json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1" }),
                "converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion",
            ),
            (
                false,
                with(json!({ "patch": "W10=" })),
                "validating webhook may not return response.patch",
            ),
            (
                false,
                with(json!({ "patchType": "JSONPatch" })),
                "validating webhook may not return response.patchType",
            ),
            (
                true,
                with(json!({ "patch": "W10=" })),
                "webhook returned response.patch but not response.patchType",
            ),
            (
                true,
                with(json!({ "patchType": "JSONPatch" })),
                "webhook returned response.patchType but not response.patch",
            ),
            (
                true,
                with(json!({ "patch": "%" })),
                "illegal base64 data at input byte 0",
            ),
            (
                true,
                with(json!({ "allowed": "yes" })),
                "json: cannot unmarshal string into Go struct field AdmissionResponse.response.allowed of type bool",
            ),
            (
                true,
                with(json!({ "status": { "code": "x" } })),
                "json: cannot unmarshal string into Go struct field Status.response.status.code of type int32",
            ),
        ] {
            assert_eq!(read(mutating, &answer).unwrap_err().to_string(), want, "{answer}");
        }
        assert!(
            read(
                true,
                &with(json!({ "patch": "W10=", "patchType": "JSONPatch", "warnings": ["a"] }))
            )
            .is_ok()
        );
        // of v1beta1 neither uid nor type is checked
        let old = json!({ "response": { "allowed": true, "patch": "W10=" } });
        let decoded = decode(ReviewVersion::V1Beta1, &old).unwrap();
        let response = verify(ReviewVersion::V1Beta1, "u", true, decoded).unwrap();
        assert_eq!(
            (response.allowed, response.patch_type.as_deref()),
            (true, Some(JSON_PATCH))
        );
    }

    #[test]
    fn a_denial_is_a_failure_and_says_whose_it_is() {
        let of = |status: Value| {
            let made = denial("x", Some(status));
            (
                made["code"].as_i64(),
                made["status"].clone(),
                made["message"].as_str().unwrap_or_default().to_owned(),
            )
        };
        let text = |rest: &str| format!("admission webhook \"x\" denied the request{rest}");
        let failure = json!("Failure");
        assert_eq!(
            of(json!({})),
            (Some(400), failure.clone(), text(" without explanation"))
        );
        assert_eq!(
            of(json!({ "code": 200, "message": "m", "reason": "r" })),
            (Some(400), failure.clone(), text(": m"))
        );
        assert_eq!(
            of(json!({ "code": 451, "reason": "r", "status": "Success" })),
            (Some(451), failure, text(": r"))
        );
        assert_eq!(denial("x", None)["message"], text(" without explanation"));
    }

    #[test]
    fn a_review_holds_the_request_and_the_objects() {
        let described = json!({ "operation": "CREATE", "dryRun": false });
        let text = write(ReviewVersion::V1, "u", &described, [&json!({ "a": 1 }), &Value::Null]).unwrap();
        let tree: Value = serde_json::from_slice(&text).unwrap();
        let request =
            json!({ "uid": "u", "operation": "CREATE", "dryRun": false, "object": { "a": 1 }, "oldObject": null });
        assert_eq!(
            tree,
            json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request })
        );
    }
}
