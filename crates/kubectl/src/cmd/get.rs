//! `get`: objects as tables and in every other format.

use std::sync::Arc;

use clap::ArgAction;
use serde_json::{Value, json};

use crate::api::{Call, JSON, TABLE};
use crate::discovery::ResourceType;
use crate::error::{Error, Result, all, fail};
use crate::flags::{Files, Output};
use crate::print::Format;
use crate::print::sort::sort_by;
use crate::print::table::{TableOptions, TablePrinter};
use crate::print::tabwriter::TabWriter;
use crate::resolve::with_type;
use crate::select::{CHUNK, Info, Selection, Target};
use crate::session::Session;
use crate::watch;

/// Display one or many resources
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TYPE[.VERSION][.GROUP] [NAME ...], or TYPE/NAME ...
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// Selector (field query) to filter on
    #[arg(long)]
    field_selector: Option<String>,
    /// If present, list the requested object(s) across all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// After listing/getting the requested object, watch for changes
    #[arg(long, short)]
    watch: bool,
    /// Watch for changes to the requested object(s), without listing/getting first
    #[arg(long)]
    watch_only: bool,
    /// Output watch event objects when --watch or --watch-only is used
    #[arg(long)]
    output_watch_events: bool,
    /// If true, suppresses NotFound error for specific objects that do not exist
    #[arg(long)]
    ignore_not_found: bool,
    /// When using the default output format, don't print headers
    #[arg(long)]
    no_headers: bool,
    /// When printing, show all labels as the last column
    #[arg(long)]
    show_labels: bool,
    /// If present, list the resource type for the requested object(s)
    #[arg(long)]
    show_kind: bool,
    /// Labels that are going to be presented as columns
    #[arg(long, short = 'L', value_delimiter = ',')]
    label_columns: Vec<String>,
    /// Sort list types using this field specification, a JSONPath expression
    #[arg(long)]
    sort_by: Option<String>,
    /// Raw URI to request from the server
    #[arg(long)]
    raw: Option<String>,
    /// Return large lists in chunks rather than all at once
    #[arg(long, default_value_t = CHUNK, hide_default_value = true)]
    chunk_size: u32,
    /// If specified, gets the subresource of the requested object
    #[arg(long)]
    subresource: Option<String>,
    /// If true, have the server return the appropriate table output
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    server_print: bool,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    if let Some(path) = &args.raw {
        if !args.args.is_empty() {
            return fail("arguments may not be passed when --raw is specified");
        }
        let body = session.api()?.bytes(&Call::get(path.as_str())).await?;
        return session.print(&String::from_utf8_lossy(&body));
    }
    let format = Format::for_get(&args.output, args.no_headers)?;
    if args.show_labels && !format.is_human() {
        return fail(format!(
            "--show-labels option cannot be used with {} printer",
            args.output.output.as_deref().unwrap_or_default()
        ));
    }
    let asked = args.output.output.as_deref().unwrap_or_default();
    if !args.label_columns.is_empty() && asked.starts_with("custom-columns") {
        return fail(format!("--label-columns option cannot be used with {asked} printer"));
    }
    let watches = args.watch || args.watch_only;
    if args.output_watch_events && !watches {
        return fail("--output-watch-events option can only be used with --watch or --watch-only");
    }
    if args.args.is_empty() && args.files.is_empty() && !watches {
        session.warn(
            "You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete list of supported resources.\n",
        );
        return session.usage(
            "Required resource not specified.\nUse \"kubectl explain <resource>\" for a detailed description of that resource (e.g. kubectl explain pods).",
        );
    }
    let mut selection = Selection::new(&args.args);
    selection.files = Some(&args.files);
    selection.labels = args.selector.as_deref();
    selection.fields = args.field_selector.as_deref();
    selection.all_namespaces = args.all_namespaces;
    selection.allow_all = true;
    selection.latest = true;
    selection.subresource = args.subresource.as_deref().unwrap_or_default();
    selection.chunk = if args.sort_by.is_some() { 0 } else { args.chunk_size };
    if format.is_human() && args.server_print {
        selection.accept = TABLE;
        if args.sort_by.is_some() {
            selection.query.push(("includeObject", "Object".to_owned()));
        }
    } else {
        selection.accept = JSON;
    }
    if watches {
        return follow(session, args, &format, selection).await;
    }
    let single = selection.is_single();
    let (mut infos, mut errors) = selection.infos(session).await?;
    if args.ignore_not_found {
        errors.retain(|e| !e.is_not_found());
    }
    if let Format::Human { wide } = format {
        return human(session, args, wide, infos, errors);
    }
    if single && infos.is_empty() {
        return all(errors);
    }
    if infos.is_empty() && args.ignore_not_found {
        return all(errors);
    }
    if let Some(path) = args.sort_by.as_deref().filter(|_| !(single && infos.len() == 1)) {
        sort_by(&mut infos, path, |i| &i.object)?;
    }
    let text = match (single, infos.len()) {
        (true, 1) => format.object(&infos.remove(0).object)?,
        _ => {
            let items: Vec<Value> = infos.into_iter().map(|i| i.object).collect();
            format.object(
                &json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}),
            )?
        }
    };
    session.print(&text)?;
    all(errors)
}

/// A printer for the tables of one type.
fn printer(args: &Args, wide: bool, ty: &ResourceType, with_kind: bool) -> TablePrinter {
    TablePrinter::new(TableOptions {
        wide,
        no_headers: args.no_headers,
        with_namespace: args.all_namespaces && ty.namespaced,
        kind: (with_kind || args.show_kind).then(|| ty.group_kind()),
        show_labels: args.show_labels,
        label_columns: args.label_columns.clone(),
    })
}

fn human(session: &Session, args: &Args, wide: bool, mut infos: Vec<Info>, errors: Vec<Error>) -> Result<()> {
    // answers are sorted as they are, be they tables: in these there is no field of an object
    if let Some(path) = args.sort_by.as_deref().filter(|_| infos.len() > 1) {
        sort_by(&mut infos, path, |info| &info.object)?;
    }
    for info in &mut infos {
        as_table(info);
        if let (Some(path), Some(rows)) = (&args.sort_by, info.object["rows"].as_array_mut())
            && rows.len() > 1
        {
            sort_by(rows, path, |row| &row["object"])?;
        }
    }
    let with_kind = infos.iter().any(|i| i.ty != infos[0].ty);
    let mut out = TabWriter::table();
    let mut written = false;
    let mut at = 0;
    while at < infos.len() {
        let ty: Arc<ResourceType> = infos[at].ty.clone();
        let mut printer = printer(args, wide, &ty, with_kind);
        while let Some(info) = infos.get(at).filter(|i| i.ty == ty) {
            printer.print(&info.object, None, &mut out);
            at += 1;
        }
        let text = out.flush();
        out.forget_widths();
        if !text.is_empty() {
            // An empty line parts the tables, unless they have no headers.
            if written && !args.no_headers {
                session.print("\n")?;
            }
            session.print(&text)?;
            written = true;
        }
    }
    if !written && !args.ignore_not_found && errors.is_empty() {
        let in_namespace = !args.all_namespaces && infos.iter().all(|i| i.ty.namespaced);
        session.warn(&match in_namespace {
            true => format!("No resources found in {} namespace.", session.namespace()?),
            false => "No resources found".to_owned(),
        });
    }
    all(errors)
}

/// What came as an object is shown by name and age.
fn as_table(info: &mut Info) {
    if info.object["kind"] == "Table" {
        return;
    }
    let object = info.object.take();
    let created = object["metadata"]["creationTimestamp"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let age = crate::age::since(&created, jiff::Timestamp::now());
    info.object = json!({
        "kind": "Table",
        "columnDefinitions": [{"name": "Name", "type": "string", "format": "name"}, {"name": "Age", "type": "string"}],
        "rows": [{"cells": [object["metadata"]["name"], age], "object": object}],
    });
}

/// `--watch`: what is there, and then every change.
async fn follow(session: &Session, args: &Args, format: &Format, mut selection: Selection<'_>) -> Result<()> {
    selection.single_type = true;
    if args.watch && args.sort_by.is_some() {
        session.warn("warning: --watch requested, --sort-by will be ignored for watch events received");
    }
    let mut targets = selection.targets(session).await?;
    if targets.len() != 1 {
        return show_several(session, args, format, selection).await;
    }
    let target = targets.remove(0);
    let ty = match &target {
        Target::Named(info) => info.ty.clone(),
        Target::Collection { ty, .. } => ty.clone(),
    };
    let mut show = Show::of(session, args, format, ty);
    let (path, mut query, version) = match target {
        Target::Collection { ty, namespace } => {
            let mut next = String::new();
            let mut version;
            loop {
                let page = selection.page(session, &ty, &namespace, &next).await?;
                next = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
                version = page["metadata"]["resourceVersion"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                if !args.watch_only {
                    show.page(page)?;
                }
                if next.is_empty() {
                    break;
                }
            }
            let mut query = selection.query.clone();
            query.extend(selection.selectors());
            (ty.collection(&namespace), query, version)
        }
        Target::Named(info) => {
            let call = Call::get(info.path())
                .accept(selection.accept)
                .query(selection.query.clone());
            let object = match session.api()?.json(&call).await {
                Err(e) if e.is_not_found() && args.ignore_not_found => return Ok(()),
                other => other?,
            };
            if !args.watch_only {
                show.one(object, "ADDED")?;
            }
            let mut query = selection.query.clone();
            query.push(("fieldSelector", format!("metadata.name={}", info.name)));
            (info.ty.collection(&info.namespace), query, "0".to_owned())
        }
    };
    // A watch of one object starts with the object itself, which has been shown.
    let mut skip = version == "0";
    query.push(("resourceVersion", version));
    let mut events = watch::open(session.api()?, &path, query, selection.accept).await?;
    while let Some(event) = events.next().await? {
        if std::mem::take(&mut skip) && event.kind == "ADDED" {
            continue;
        }
        show.one(event.object, &event.kind)?;
    }
    Ok(())
}

/// Shows several objects, which cannot be watched at once.
async fn show_several(session: &Session, args: &Args, format: &Format, selection: Selection<'_>) -> Result<()> {
    let infos = match selection.all(session).await {
        Err(error) if error.is_not_found() && args.ignore_not_found => return Ok(()),
        infos => infos?,
    };
    let found = infos.len();
    if let Some(first) = infos.first() {
        let mut show = Show::of(session, args, format, first.ty.clone());
        for info in infos.into_iter().filter(|_| !args.watch_only) {
            show.one(info.object, "ADDED")?;
        }
    }
    match args.files.files.len() {
        1 => fail(format!(
            "watch is only supported on individual resources and resource collections - {found} resources were found"
        )),
        _ => fail("you may only watch a single resource or type of resource at a time"),
    }
}

/// Prints objects as they come.
struct Show<'a> {
    session: &'a Session,
    args: &'a Args,
    format: &'a Format,
    table: TablePrinter,
    out: TabWriter,
    shown: usize,
    ty: Arc<ResourceType>,
}

impl<'a> Show<'a> {
    fn of(session: &'a Session, args: &'a Args, format: &'a Format, ty: Arc<ResourceType>) -> Show<'a> {
        Show {
            session,
            args,
            format,
            table: printer(args, matches!(format, Format::Human { wide: true }), &ty, false),
            out: TabWriter::table(),
            shown: 0,
            ty,
        }
    }

    fn page(&mut self, mut page: Value) -> Result<()> {
        if page["kind"] == "Table" {
            return self.one(page, "ADDED");
        }
        if let Some(items) = page["items"].as_array_mut() {
            for mut item in std::mem::take(items) {
                with_type(&mut item, &self.ty);
                self.one(item, "ADDED")?;
            }
        }
        Ok(())
    }

    fn one(&mut self, object: Value, event: &str) -> Result<()> {
        let event = self.args.output_watch_events.then_some(event);
        if let Format::Human { .. } = self.format {
            let mut info = Info::of(&self.ty, object);
            as_table(&mut info);
            self.table.print(&info.object, event, &mut self.out);
            let text = self.out.flush();
            return self.session.print(&text);
        }
        let object = match event {
            Some(event) => json!({"type": event, "object": object}),
            None => object,
        };
        if self.shown > 0 && matches!(self.format, Format::Yaml { .. }) {
            self.session.print("---\n")?;
        }
        self.shown += 1;
        let text = self.format.object(&object)?;
        self.session.print(&text)
    }
}
