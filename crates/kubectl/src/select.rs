//! Which objects a command line means: types, names, selectors and files.

use std::sync::Arc;

use serde_json::Value;

use crate::api::{Call, JSON, Query};
use crate::discovery::ResourceType;
use crate::error::{Error, Result, all, fail, message};
use crate::flags::Files;
use crate::print::go::quote;
use crate::resolve::{from_files, from_files_alone, with_type};
use crate::session::Session;

/// Objects of one page of a list.
pub const CHUNK: u32 = 500;

/// An object, or a table of several.
#[derive(Debug, Clone)]
pub struct Info {
    pub ty: Arc<ResourceType>,
    pub namespace: String,
    pub name: String,
    /// The file it comes from; empty for what the server was asked for.
    pub source: String,
    pub object: Value,
}

impl Info {
    pub(crate) fn path(&self) -> String {
        self.ty.path(&self.namespace, &self.name)
    }

    /// `pod/x` or `deployment.apps/x`.
    pub fn shown(&self) -> String {
        format!("{}/{}", self.ty.group_kind(), self.name)
    }

    /// From an object the server answered.
    pub fn of(ty: &Arc<ResourceType>, object: Value) -> Info {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        Info {
            ty: ty.clone(),
            namespace: text("namespace"),
            name: text("name"),
            source: String::new(),
            object,
        }
    }

    /// Takes the server's answer for the object.
    pub fn replace(&mut self, object: Value) {
        if let Some(name) = object["metadata"]["name"].as_str() {
            name.clone_into(&mut self.name);
        }
        self.object = object;
    }

    /// Asks for the object as it is now.
    pub async fn refresh(&mut self, session: &Session) -> Result<()> {
        self.object = session.api()?.get(&self.path()).await?;
        Ok(())
    }
}

/// What is to be asked for.
#[derive(Debug, Clone)]
pub enum Target {
    Named(Info),
    Collection { ty: Arc<ResourceType>, namespace: String },
}

/// A command line's choice of objects.
#[derive(Debug, Clone)]
pub struct Selection<'a> {
    pub args: &'a [String],
    pub files: Option<&'a Files>,
    pub labels: Option<&'a str>,
    pub fields: Option<&'a str>,
    pub all_namespaces: bool,
    /// A type alone means all its objects.
    pub allow_all: bool,
    /// Objects named by type and name are asked for.
    pub fetch_named: bool,
    /// Objects of files are asked for anew.
    pub latest: bool,
    /// Files are all there is: the server is asked for nothing.
    pub local: bool,
    pub single_type: bool,
    pub subresource: &'a str,
    pub accept: &'static str,
    pub query: Query,
    /// 0 is everything at once.
    pub chunk: u32,
}

impl<'a> Selection<'a> {
    pub(crate) fn new(args: &'a [String]) -> Selection<'a> {
        Selection {
            args,
            files: None,
            labels: None,
            fields: None,
            all_namespaces: false,
            allow_all: false,
            fetch_named: true,
            latest: false,
            local: false,
            single_type: false,
            subresource: "",
            accept: JSON,
            query: Vec::new(),
            chunk: CHUNK,
        }
    }

    fn selects(&self) -> bool {
        self.labels.is_some_and(|l| !l.is_empty()) || self.fields.is_some_and(|f| !f.is_empty())
    }

    /// Whether exactly one object is meant.
    pub fn is_single(&self) -> bool {
        match self.files.filter(|f| !f.is_empty()) {
            Some(files) => {
                files.files.len() == 1 && files.files[0] != "-" && !std::path::Path::new(&files.files[0]).is_dir()
            }
            None => {
                let args = normalize(self.args);
                match args.iter().any(|a| a.contains('/')) {
                    true => args.len() == 1,
                    false => args.len() == 2,
                }
            }
        }
    }

    /// What is to be asked for, in the order of the command line.
    pub async fn targets(&self, session: &Session) -> Result<Vec<Target>> {
        if let Some(files) = self.files.filter(|f| !f.is_empty()) {
            let (infos, errors) = match self.local {
                true => from_files_alone(files).await?,
                false => from_files(session, files).await?,
            };
            if let [first, rest @ ..] = &self.args {
                return match first.contains('/') && rest.is_empty() {
                    true => fail("name cannot be provided when a path is specified"),
                    false => fail(
                        "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well",
                    ),
                };
            }
            all(errors)?;
            return Ok(infos.into_iter().map(Target::Named).collect());
        }
        let args = normalize(self.args);
        let slashes = args.iter().filter(|a| a.contains('/')).count();
        if slashes > 0 && slashes < args.len() {
            return fail(
                "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'",
            );
        }
        let named = if slashes > 0 { tuples(&args)? } else { Vec::new() };
        if self.selects() {
            if !named.is_empty() {
                return fail("selectors and the all flag cannot be used when passing resource/name arguments");
            }
            if args.len() > 1 {
                return fail("name cannot be provided when a selector is specified");
            }
            if args.is_empty() {
                return fail("at least one resource must be specified to use a selector");
            }
        }
        if !named.is_empty() {
            return self.named(session, named).await;
        }
        match &args[..] {
            [] => Err(nothing_meant()),
            [types] => self.collections(session, types).await,
            [types, names @ ..] => {
                let pairs = names.iter().map(|n| (types.clone(), n.clone())).collect();
                self.named(session, pairs).await
            }
        }
    }

    async fn named(&self, session: &Session, pairs: Vec<(String, String)>) -> Result<Vec<Target>> {
        let resources = session.resources().await?;
        let mut targets = Vec::new();
        for (resource, name) in pairs {
            let ty = resources.require(&resource)?;
            if ty.namespaced && self.all_namespaces {
                return fail("a resource cannot be retrieved by name across all namespaces");
            }
            let namespace = if ty.namespaced {
                session.namespace()?
            } else {
                String::new()
            };
            targets.push(Target::Named(Info {
                ty,
                namespace,
                name,
                source: String::new(),
                object: Value::Null,
            }));
        }
        if self.single_type && targets.len() > 1 && distinct_types(&targets) > 1 {
            return fail("you may only specify a single resource type");
        }
        Ok(targets)
    }

    async fn collections(&self, session: &Session, types: &str) -> Result<Vec<Target>> {
        let resources = session.resources().await?;
        let names: Vec<String> = types.split(',').flat_map(|t| resources.expand(t)).collect();
        let mut targets: Vec<Target> = Vec::new();
        for name in names {
            if name.is_empty() {
                return fail("arguments in resource/name form must have a single resource and name");
            }
            let ty = resources.require(&name)?;
            let known = |t: &Target| matches!(t, Target::Collection { ty: other, .. } if *other == ty);
            if targets.iter().any(known) {
                continue;
            }
            let namespace = match ty.namespaced && !self.all_namespaces {
                true => session.namespace()?,
                false => String::new(),
            };
            targets.push(Target::Collection { ty, namespace });
        }
        if self.single_type && targets.len() > 1 {
            return fail("you may only specify a single resource type");
        }
        if !self.allow_all && !self.selects() {
            return fail("resource(s) were provided, but no name was specified");
        }
        if !self.subresource.is_empty() {
            return fail("subresource cannot be used when bulk resources are specified");
        }
        Ok(targets)
    }

    /// The objects, lists taken apart; what could not be had does not keep the rest.
    pub async fn infos(&self, session: &Session) -> Result<(Vec<Info>, Vec<Error>)> {
        let mut infos = Vec::new();
        let mut errors = Vec::new();
        for target in self.targets(session).await? {
            infos.extend(self.found(session, target, &mut errors).await);
        }
        Ok((infos, errors))
    }

    /// The objects of one target; why it has none goes to the errors.
    pub async fn found(&self, session: &Session, target: Target, errors: &mut Vec<Error>) -> Vec<Info> {
        let mut infos = Vec::new();
        if let Err(error) = self.fetch(session, target, &mut infos).await {
            errors.push(error);
        }
        infos
    }

    /// The objects, or the first error.
    pub async fn all(&self, session: &Session) -> Result<Vec<Info>> {
        let mut infos = Vec::new();
        for target in self.targets(session).await? {
            self.fetch(session, target, &mut infos).await?;
        }
        Ok(infos)
    }

    /// Asks for what a target means; lists are taken apart.
    pub async fn fetch(&self, session: &Session, target: Target, infos: &mut Vec<Info>) -> Result<()> {
        match target {
            Target::Named(mut info) => {
                if (info.source.is_empty() && self.fetch_named) || self.latest {
                    let mut path = info.path();
                    if !self.subresource.is_empty() {
                        path = format!("{path}/{}", self.subresource);
                    }
                    let call = Call::get(path).accept(self.accept).query(self.query.clone());
                    info.object = session.api()?.json(&call).await?;
                }
                infos.push(info);
            }
            Target::Collection { ty, namespace } => {
                let mut next = String::new();
                loop {
                    let page = self.page(session, &ty, &namespace, &next).await;
                    let page = page.map_err(|e| self.with_selectors(e, &ty))?;
                    next = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
                    spread(&ty, &namespace, page, infos);
                    if next.is_empty() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Says what was looked for where the server did not understand it.
    fn with_selectors(&self, error: Error, ty: &ResourceType) -> Error {
        match error {
            Error::Api(client::Error::Api(mut status)) if self.selects() && status.code == Some(400) => {
                let resource = format!("{}/{}, Resource={}", ty.group, ty.version, ty.plural);
                let said = status.message.unwrap_or_default();
                status.message = Some(format!(
                    "Unable to find {} that match label selector {}, field selector {}: {said}",
                    quote(&resource),
                    quote(self.labels.unwrap_or_default()),
                    quote(self.fields.unwrap_or_default())
                ));
                Error::Api(client::Error::Api(status))
            }
            other => other,
        }
    }

    /// One page of a collection.
    pub async fn page(&self, session: &Session, ty: &ResourceType, namespace: &str, next: &str) -> Result<Value> {
        let mut query = self.query.clone();
        query.extend(self.selectors());
        if self.chunk > 0 {
            query.push(("limit", self.chunk.to_string()));
        }
        if !next.is_empty() {
            query.push(("continue", next.to_owned()));
        }
        session
            .api()?
            .json(&Call::get(ty.collection(namespace)).accept(self.accept).query(query))
            .await
    }

    pub(crate) fn selectors(&self) -> Query {
        let mut query = Vec::new();
        if let Some(labels) = self.labels.filter(|l| !l.is_empty()) {
            query.push(("labelSelector", labels.to_owned()));
        }
        if let Some(fields) = self.fields.filter(|f| !f.is_empty()) {
            query.push(("fieldSelector", fields.to_owned()));
        }
        query
    }
}

fn distinct_types(targets: &[Target]) -> usize {
    let mut seen: Vec<&Arc<ResourceType>> = Vec::new();
    for target in targets {
        let (Target::Named(Info { ty, .. }) | Target::Collection { ty, .. }) = target;
        if !seen.contains(&ty) {
            seen.push(ty);
        }
    }
    seen.len()
}

/// Says that a command line names no objects.
pub fn nothing_meant() -> Error {
    message(
        "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'",
    )
}

/// `a,b x y` is `a/x a/y b/x b/y`.
fn normalize(args: &[String]) -> Vec<String> {
    match args {
        [types, names @ ..] if !names.is_empty() && types.contains(',') => types
            .split(',')
            .flat_map(|ty| names.iter().map(move |name| format!("{ty}/{name}")))
            .collect(),
        _ => args.to_vec(),
    }
}

fn tuples(args: &[String]) -> Result<Vec<(String, String)>> {
    args.iter()
        .map(|arg| match arg.split('/').collect::<Vec<_>>()[..] {
            [ty, name] if !ty.is_empty() && !name.is_empty() && !ty.contains(',') => {
                Ok((ty.to_owned(), name.to_owned()))
            }
            [_, _] => fail("arguments in resource/name form must have a single resource and name"),
            _ => fail("arguments in resource/name form may not have more than one slash"),
        })
        .collect()
}

/// A list's items each for itself; a table stays whole.
fn spread(ty: &Arc<ResourceType>, namespace: &str, page: Value, infos: &mut Vec<Info>) {
    if page["kind"] == "Table" || !page["items"].is_array() && !page["items"].is_null() {
        infos.push(Info {
            ty: ty.clone(),
            namespace: namespace.to_owned(),
            name: String::new(),
            source: String::new(),
            object: page,
        });
        return;
    }
    let Value::Object(mut list) = page else { return };
    if let Some(Value::Array(items)) = list.remove("items") {
        for mut item in items {
            with_type(&mut item, ty);
            infos.push(Info::of(ty, item));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn several_types_with_names_are_pairs() {
        assert_eq!(normalize(&words("a,b x y")), words("a/x a/y b/x b/y"));
        assert_eq!(normalize(&words("a x")), words("a x"));
    }

    #[test]
    fn pairs_have_one_slash() {
        assert_eq!(tuples(&words("pods/x")).unwrap(), [("pods".to_owned(), "x".to_owned())]);
        assert_eq!(
            tuples(&words("pods/")).unwrap_err().to_string(),
            "arguments in resource/name form must have a single resource and name"
        );
        assert!(tuples(&words("a/b/c")).is_err());
    }

    #[test]
    fn one_object_is_meant_by_a_type_and_a_name() {
        for (args, single) in [
            ("pods x", true),
            ("pods/x", true),
            ("pods", false),
            ("pods x y", false),
            ("a,b x", false),
        ] {
            let args = words(args);
            assert_eq!(Selection::new(&args).is_single(), single, "{args:?}");
        }
    }
}
