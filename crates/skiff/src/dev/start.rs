//! Starts a cluster of `skiff dev`, new or stopped, and waits until all of its nodes are Ready.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use client::{Client, WatchEvent};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;

use super::record::{MOST_NODES, Port, Record};
use super::{DevError, contexts, network, node};

/// What a user asks of a cluster.
#[derive(Debug, Default)]
pub struct Wanted {
    pub name: String,
    /// How many nodes; of a cluster that is there already, as many as it has.
    pub nodes: Option<u8>,
    /// How many hollow nodes besides; likewise.
    pub hollow: Option<u16>,
    pub ports: Vec<Port>,
    /// Archives of images that each node imports.
    pub images: Vec<PathBuf>,
    /// Files that the server applies.
    pub manifests: Vec<PathBuf>,
    pub server_args: Vec<String>,
    pub node_args: Vec<String>,
    pub patience: Duration,
}

/// Starts it; tells how it goes.
pub async fn start(home: &Path, wanted: &Wanted) -> Result<(), DevError> {
    let began = Instant::now();
    let record = match Record::load(home, &wanted.name)? {
        Some(record) => known(record, wanted)?,
        None => new(home, wanted)?,
    };
    for number in 0..record.nodes {
        let folder = record.data_dir(home, number);
        for archive in &wanted.images {
            put(archive, &folder.join("agent/images"))?;
        }
    }
    for manifest in &wanted.manifests {
        put(manifest, &record.data_dir(home, 0).join("server/manifests"))?;
    }
    let stopped: Vec<u8> = record
        .processes()
        .filter(|number| node::running(&record.node_folder(home, *number)).is_none())
        .collect();
    if let Some(first) = stopped.first() {
        let part = if *first == 0 { "" } else { "the stopped nodes of " };
        let nodes = if record.nodes == 1 { "node" } else { "nodes" };
        let hollow = match record.hollow {
            0 => String::new(),
            some => format!(" and {some} hollow"),
        };
        println!("Starting {part}{} ({} {nodes}{hollow})", record.name, record.nodes);
    }
    network::raise(&record)?;
    // what a node has said of itself before its start does not count
    let since = Timestamp::now();
    let since = Timestamp::from_second(since.as_second()).unwrap_or(since);
    for number in &stopped {
        run(&record, home, *number)?;
    }
    let client = reach(&record, home, began + wanted.patience).await?;
    println!(
        "  API server answers at {} ({:.1} s)",
        record.url(),
        began.elapsed().as_secs_f32()
    );
    let ready = tokio::time::timeout_at(
        (began + wanted.patience).into(),
        ready(&client, &record, &stopped, since, began),
    );
    match ready.await {
        Ok(done) => done?,
        Err(_) => return Err(DevError::Late(record.name.clone(), wanted.patience)),
    }
    let file = contexts::add(&record, home)?;
    println!("kubectl uses context {} of {}", record.context(), file.display());
    Ok(())
}

/// A cluster that is there keeps what it was made with.
fn known(record: Record, wanted: &Wanted) -> Result<Record, DevError> {
    let other = |what: &str| Err(DevError::Other(record.name.clone(), what.to_owned()));
    if wanted.nodes.is_some_and(|nodes| nodes != record.nodes) {
        return other(&format!("{} nodes", record.nodes));
    }
    if wanted.hollow.is_some_and(|hollow| hollow != record.hollow) {
        return other(&format!("{} hollow nodes", record.hollow));
    }
    if !wanted.ports.is_empty() && wanted.ports != record.ports {
        return other("other ports");
    }
    if !wanted.server_args.is_empty() && wanted.server_args != record.server_args {
        return other("other flags of its server");
    }
    if !wanted.node_args.is_empty() && wanted.node_args != record.node_args {
        return other("other flags of its nodes");
    }
    Ok(record)
}

fn new(home: &Path, wanted: &Wanted) -> Result<Record, DevError> {
    let nodes = wanted.nodes.unwrap_or(1);
    if !(1..=MOST_NODES).contains(&nodes) {
        return Err(DevError::Nodes(nodes));
    }
    let network = Record::free_network(&Record::all(home)?).ok_or(DevError::Full)?;
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| DevError::at(home)(std::io::Error::other(e.to_string())))?;
    let record = Record {
        name: wanted.name.clone(),
        network,
        nodes,
        hollow: wanted.hollow.unwrap_or(0),
        ports: wanted.ports.clone(),
        token: random.iter().map(|byte| format!("{byte:02x}")).collect(),
        server_args: wanted.server_args.clone(),
        node_args: wanted.node_args.clone(),
    };
    record.save(home)?;
    Ok(record)
}

/// Puts a file where a node finds it; big ones are not copied if they need not be.
fn put(file: &Path, folder: &Path) -> Result<(), DevError> {
    let name = file
        .file_name()
        .ok_or_else(|| DevError::at(file)(std::io::ErrorKind::InvalidInput.into()))?;
    std::fs::create_dir_all(folder).map_err(DevError::at(folder))?;
    std::fs::copy(file, folder.join(name))
        .map(drop)
        .map_err(DevError::at(file))
}

/// Nameservers that a node reaches: those on this machine's loopback it does not.
fn resolv_conf(text: &str) -> String {
    let reachable = |line: &&str| {
        let mut words = line.split_whitespace();
        let server = (words.next() == Some("nameserver")).then(|| words.next()).flatten();
        server.is_none_or(|ip| ip.parse().is_ok_and(|ip: std::net::IpAddr| !ip.is_loopback()))
    };
    text.lines().filter(reachable).map(|line| format!("{line}\n")).collect()
}

fn run(record: &Record, home: &Path, number: u8) -> Result<(), DevError> {
    let (name, folder) = (record.node(number), record.node_folder(home, number));
    let data = record.data_dir(home, number);
    std::fs::create_dir_all(&data).map_err(DevError::at(&data))?;
    // systemd's own resolver listens on loopback, and keeps the servers that it asks beside it
    let known = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];
    let text = known.iter().find_map(|path| std::fs::read_to_string(path).ok());
    let resolver = folder.join("resolv.conf");
    std::fs::write(&resolver, resolv_conf(&text.unwrap_or_default())).map_err(DevError::at(&resolver))?;
    let mut words: Vec<String> = match number {
        0 => vec!["server".into(), format!("--token={}", record.token)],
        _ => vec![
            "agent".into(),
            format!("--server={}", record.url()),
            format!("--token={}", record.token),
        ],
    };
    words.extend([
        format!("--data-dir={}", data.display()),
        format!("--node-name={name}"),
        format!("--node-ip={}", record.address(number)),
        format!("--resolv-conf={}", resolver.display()),
    ]);
    if record.is_hollow(number) {
        words.push(format!("--hollow={}", record.hollow));
    }
    words.extend(record.node_args.iter().cloned());
    if number == 0 {
        words.extend(record.server_args.iter().cloned());
    }
    let start = node::Start {
        name: &name,
        folder: &folder,
        words,
    };
    let held = start.hold()?;
    network::attach(record, number, held.pid())?;
    held.go()
}

/// A client of the cluster, once its API server answers.
async fn reach(record: &Record, home: &Path, deadline: Instant) -> Result<Client, DevError> {
    const LOOK: Duration = Duration::from_millis(20);
    loop {
        let folder = record.node_folder(home, 0);
        if node::running(&folder).is_none() {
            return Err(DevError::Node(record.node(0), node::last_lines(&folder)));
        }
        // the server writes it once it answers
        if record.data_dir(home, 0).join("server/cred/admin.kubeconfig").exists() {
            let client = contexts::way(record, home)?.client("skiff-dev")?;
            if client
                .document::<serde_json::Value>("/version", "application/json")
                .await
                .is_ok()
            {
                return Ok(client);
            }
        }
        if Instant::now() > deadline {
            return Err(DevError::Node(record.node(0), node::last_lines(&folder)));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until all nodes are Ready; those that were started, since then.
async fn ready(
    client: &Client,
    record: &Record,
    started: &[u8],
    since: Timestamp,
    began: Instant,
) -> Result<(), DevError> {
    let all = record.all_nodes();
    let mut hollow = usize::from(record.hollow);
    let mut waiting: BTreeMap<String, u8> = all.map(|(process, name)| (name, process)).collect();
    let mut nodes = client.list_watch(Client::collection::<Node>(""));
    while let Some(event) = nodes.next().await {
        let objects = match event {
            WatchEvent::Applied(node) => vec![node],
            WatchEvent::Restarted(list) => list,
            _ => continue,
        };
        for node in objects.iter().filter_map(|object| object.decode::<Node>().ok()) {
            let name = node.metadata.name.clone().unwrap_or_default();
            let Some(&process) = waiting.get(&name) else { continue };
            if !is_ready(&node, started.contains(&process).then_some(since)) {
                continue;
            }
            waiting.remove(&name);
            let took = began.elapsed().as_secs_f32();
            if !record.is_hollow(process) {
                println!("  {name} is Ready ({took:.1} s)");
                continue;
            }
            hollow -= 1;
            if hollow == 0 {
                println!("  {} hollow nodes are Ready ({took:.1} s)", record.hollow);
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
    }
    Err(DevError::Network("the watch of nodes ended".into()))
}

fn is_ready(node: &Node, since: Option<Timestamp>) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| {
        let heard = condition.last_heartbeat_time.as_ref().map(|time| time.0);
        condition.type_ == "Ready" && condition.status == "True" && since.is_none_or(|since| heard >= Some(since))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_on_loopback_are_left_out() {
        let text = "search a.b\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n# nothing\nnameserver ::1\n";
        assert_eq!(resolv_conf(text), "search a.b\nnameserver 192.0.2.1\n# nothing\n");
    }
}
