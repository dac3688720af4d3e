//! What documents there are: one for each group version, and for each page that says what there is.

use std::collections::BTreeMap;

use api::prose::Prose;
use serde_json::{Map, Value, json};

use super::paths::{camel, page, plain_page, tag};
use super::place;
use crate::registry::Catalog;
use crate::registry::resource::Resource;
use crate::server::ApiServer;

/// What `/version` answers.
pub const INFO: &str = "io.k8s.apimachinery.pkg.version.Info";

/// A page that is no resource.
pub struct Page {
    pub place: String,
    pub path: Map<String, Value>,
}

/// The resources that are chosen, those that are answered and never kept among them.
pub fn resources<'a>(
    server: &'a ApiServer,
    catalog: &'a Catalog,
    chosen: impl Fn(&Resource) -> bool,
) -> Vec<&'a Resource> {
    let kept = catalog.all().map(|served| &*served.resource);
    let answered = server.registry.all_answered().iter().map(|r| &**r);
    kept.chain(answered).filter(|r| chosen(r)).collect()
}

/// All places, with what is served at each.
pub fn all<'a>(server: &'a ApiServer, catalog: &'a Catalog) -> BTreeMap<String, Vec<&'a Resource>> {
    let mut places: BTreeMap<String, Vec<&Resource>> = BTreeMap::new();
    let resources = resources(server, catalog, |_| true);
    for page in pages(&resources) {
        places.entry(page.place).or_default();
    }
    for resource in resources {
        places.entry(place(resource)).or_default().push(resource);
    }
    places
}

/// The pages beside the resources.
pub fn pages(resources: &[&Resource]) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut add = |place: String, path| pages.push(Page { place, path });
    let versions = "get available API versions";
    add(
        "api".into(),
        page("/api/", "core", "getCoreAPIVersions", versions, "APIVersions"),
    );
    add(
        "apis".into(),
        page("/apis/", "apis", "getAPIVersions", versions, "APIGroupList"),
    );
    let mut groups: Vec<&str> = Vec::new();
    let mut seen = Vec::new();
    for r in resources.iter().filter(|r| !r.is_custom()) {
        let at = place(r);
        if !seen.contains(&at) {
            let id = format!("get{}{}APIResources", camel(&r.group), capital(&r.version));
            let tag = format!("{}_{}", tag(&r.group), r.version);
            add(
                at.clone(),
                page(
                    &format!("/{at}/"),
                    &tag,
                    &id,
                    "get available resources",
                    "APIResourceList",
                ),
            );
            seen.push(at);
        }
        if !r.group.is_empty() && !groups.contains(&r.group.as_str()) {
            groups.push(&r.group);
            let at = format!("apis/{}", r.group);
            let id = format!("get{}APIGroup", camel(&r.group));
            let path = page(
                &format!("/{at}/"),
                &tag(&r.group),
                &id,
                "get information of a group",
                "APIGroup",
            );
            add(at, path);
        }
    }
    let text = "get the version information for this server";
    let json_alone = ["application/json"];
    let info = api::openapi::reference(INFO);
    add(
        "version".into(),
        plain_page("/version/", "version", "getCodeVersion", text, &json_alone, &info),
    );
    let string = json!({ "type": "string" });
    let text = "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)";
    let keys = ["application/jwk-set+json"];
    let path = plain_page(
        "/openid/v1/jwks/",
        "openid",
        "getServiceAccountIssuerOpenIDKeyset",
        text,
        &keys,
        &string,
    );
    add("openid/v1/jwks".into(), path);
    let text = "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'";
    let at = ".well-known/openid-configuration";
    let id = "getServiceAccountIssuerOpenIDConfiguration";
    add(
        at.into(),
        plain_page(&format!("/{at}/"), "WellKnown", id, text, &json_alone, &string),
    );
    pages
}

fn capital(version: &str) -> String {
    version.replacen('v', "V", 1)
}

/// The fields of `/version`, and whether they are always there.
const INFO_FIELDS: &[(&str, bool)] = &[
    ("major", true),
    ("minor", true),
    ("emulationMajor", false),
    ("emulationMinor", false),
    ("minCompatibilityMajor", false),
    ("minCompatibilityMinor", false),
    ("gitVersion", true),
    ("gitCommit", true),
    ("gitTreeState", true),
    ("buildDate", true),
    ("goVersion", true),
    ("compiler", true),
    ("platform", true),
];

/// The schema of the answer to `/version`.
pub fn info(prose: &Prose) -> Value {
    let field = |(name, always): &(&str, bool)| {
        let mut field = json!({ "type": "string" });
        if *always {
            field["default"] = json!("");
        }
        if let Some(text) = prose.of(INFO, name) {
            field["description"] = json!(text);
        }
        ((*name).to_owned(), field)
    };
    let properties: Map<String, Value> = INFO_FIELDS.iter().map(field).collect();
    let required: Vec<&str> = INFO_FIELDS
        .iter()
        .filter(|(_, always)| *always)
        .map(|(name, _)| *name)
        .collect();
    json!({ "type": "object", "required": required, "properties": properties })
}
