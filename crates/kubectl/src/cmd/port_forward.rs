//! `port-forward`: local ports that lead to ports of a pod.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use streaming::client::{PORT_FORWARD, port_forward};
use streaming::spdy::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cmd::describe::{items, str_of};
use crate::error::{Error, Result, fail, message};
use crate::pods::{self, Order};
use crate::select::Info;
use crate::session::{Session, duration};

/// Forward one or more local ports to a pod
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    /// Addresses to listen on (comma separated)
    #[arg(long, value_delimiter = ',', default_value = "localhost", hide_default_value = true)]
    address: Vec<String>,
    /// The length of time to wait until at least one pod is running
    #[arg(long, default_value = "1m0s", hide_default_value = true)]
    pod_running_timeout: String,
}

/// A local port and the pod's; local 0 is any free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    local: u16,
    remote: u16,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let [name, ports @ ..] = &args.args[..] else {
        return session.usage("TYPE/NAME and list of ports are required for port-forward");
    };
    if ports.is_empty() {
        return session.usage("TYPE/NAME and list of ports are required for port-forward");
    }
    let info = pods::named(session, name).await?;
    let timeout = duration(&args.pod_running_timeout)?.unwrap_or(Duration::MAX);
    let pod = pods::of(session, &info, timeout, Order::Active).await?.swap_remove(0);
    let pairs: Vec<Pair> = ports.iter().map(|p| pair(&info, &pod, p)).collect::<Result<_>>()?;
    let phase = str_of(&pod["status"]["phase"]);
    if phase != "Running" {
        return fail(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        ));
    }
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/portforward",
        str_of(&pod["metadata"]["namespace"]),
        crate::api::escape(str_of(&pod["metadata"]["name"]))
    );
    let io = session.api()?.web_socket(&path, PORT_FORWARD).await;
    let io = io.map_err(|error| message(format!("error upgrading connection: {error}")))?;
    let connection = Arc::new(port_forward(io).await?);
    let mut gone = connection.gone();
    let mut listening = 0;
    for pair in pairs {
        listening += listen(session, args, pair, &connection).await?;
    }
    if listening == 0 {
        return fail("unable to listen on any of the requested ports");
    }
    tokio::select! {
        _ = gone.wait_for(|gone| *gone) => Err(message("lost connection to pod")),
        _ = tokio::signal::ctrl_c() => Err(Error::Exit(130)),
    }
}

/// `8080`, `8080:80`, `:80`, `8080:http`; a service's port leads to its target.
fn pair(info: &Info, pod: &Value, text: &str) -> Result<Pair> {
    let (local, remote) = match text.split_once(':') {
        Some((local, remote)) => (Some(local), remote),
        None => (None, text),
    };
    let number = |text: &str, what: &str| {
        text.parse::<u16>().map_err(|_| {
            message(format!(
                "error parsing {what} port '{text}': strconv.ParseUint: parsing \"{text}\": invalid syntax"
            ))
        })
    };
    let of_service = info.ty.is("", "Service");
    let target = match of_service {
        true => service_port(info, pod, remote)?,
        false => match remote.parse::<u16>() {
            Ok(port) => port,
            Err(_) => container_port(pod, remote)?,
        },
    };
    if target == 0 {
        return fail("remote port must be > 0");
    }
    let local = match local {
        None => match remote.parse::<u16>() {
            Ok(port) => port,
            Err(_) => target,
        },
        Some("") => 0,
        Some(local) => number(local, "local")?,
    };
    Ok(Pair { local, remote: target })
}

fn container_port(pod: &Value, name: &str) -> Result<u16> {
    let mut ports = items(&pod["spec"]["containers"]).flat_map(|c| items(&c["ports"]));
    let found = ports
        .find(|p| p["name"] == name)
        .and_then(|p| p["containerPort"].as_u64());
    match found.and_then(|p| u16::try_from(p).ok()) {
        Some(port) => Ok(port),
        None => fail(format!(
            "Pod '{}' does not have a named port '{name}'",
            str_of(&pod["metadata"]["name"])
        )),
    }
}

fn service_port(info: &Info, pod: &Value, wanted: &str) -> Result<u16> {
    let spec = &info.object["spec"];
    let number = wanted.parse::<u64>().ok();
    let port = items(&spec["ports"]).find(|p| match number {
        Some(number) => p["port"].as_u64() == Some(number),
        None => p["name"] == wanted,
    });
    let Some(port) = port else {
        return match number {
            Some(_) => fail(format!("Service {} does not have a service port {wanted}", info.name)),
            None => fail(format!("Service '{}' does not have a named port '{wanted}'", info.name)),
        };
    };
    let short = |n: &Value| n.as_u64().and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
    if spec["clusterIP"] == "None" {
        return Ok(short(&port["port"]));
    }
    match &port["targetPort"] {
        Value::String(name) => container_port(pod, name),
        Value::Null => Ok(short(&port["port"])),
        target => Ok(short(target)),
    }
}

/// How many addresses are listened on.
async fn listen(session: &Session, args: &Args, pair: Pair, connection: &Arc<Connection>) -> Result<usize> {
    let mut count = 0;
    let mut local = pair.local;
    for address in &args.address {
        let hosts: &[&str] = match address.as_str() {
            "localhost" => &["127.0.0.1", "::1"],
            other => &[other],
        };
        for host in hosts {
            let listener = match TcpListener::bind((*host, local)).await {
                Ok(listener) => listener,
                // Of both families of localhost one is enough.
                Err(_) if *host == "::1" && count > 0 => continue,
                Err(error) => {
                    session.warn(&format!("Unable to listen on port {local}: {error}"));
                    continue;
                }
            };
            local = listener.local_addr()?.port();
            let shown = if host.contains(':') {
                format!("[{host}]")
            } else {
                (*host).to_owned()
            };
            session.println(&format!("Forwarding from {shown}:{local} -> {}", pair.remote))?;
            count += 1;
            tokio::spawn(accept(listener, pair.remote, connection.clone()));
        }
    }
    Ok(count)
}

async fn accept(listener: TcpListener, remote: u16, connection: Arc<Connection>) {
    let mut number = 0u32;
    while let Ok((socket, from)) = listener.accept().await {
        println!(
            "Handling connection for {}",
            listener.local_addr().map_or(0, |a| a.port())
        );
        let (connection, id) = (connection.clone(), format!("{}-{number}", from.port()));
        number = number.wrapping_add(1);
        tokio::spawn(async move {
            if let Err(error) = forward(socket, remote, &connection, id).await {
                eprintln!("error: an error occurred forwarding {remote}: {error}");
            }
        });
    }
}

async fn forward(socket: TcpStream, remote: u16, connection: &Connection, id: String) -> std::io::Result<()> {
    let headers = |kind: &str| {
        vec![
            ("streamtype".to_owned(), kind.to_owned()),
            ("port".to_owned(), remote.to_string()),
            ("requestid".to_owned(), id.clone()),
        ]
    };
    let mut error = connection.open(headers("error")).await?;
    error.writer.finish().await?;
    let data = connection.open(headers("data")).await?;
    let (mut read, mut write) = socket.into_split();
    let (mut reader, writer) = (data.reader, data.writer);
    let outward = async {
        let mut buffer = vec![0u8; 32 * 1024];
        loop {
            match read.read(&mut buffer).await? {
                0 => break,
                n => writer.write(Bytes::copy_from_slice(&buffer[..n])).await?,
            }
        }
        writer.finish().await?;
        std::future::pending::<std::io::Result<()>>().await
    };
    let inward = async {
        while let Some(bytes) = reader.recv().await {
            write.write_all(&bytes).await?;
        }
        write.shutdown().await
    };
    let copied = tokio::select! {
        done = outward => done,
        done = inward => done,
    };
    let mut said = Vec::new();
    while let Some(bytes) = error.reader.recv().await {
        said.extend_from_slice(&bytes);
    }
    if !said.is_empty() {
        return Err(std::io::Error::other(String::from_utf8_lossy(&said).into_owned()));
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_may_be_named_and_a_service_s_lead_to_its_target() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}});
        let info = |kind: &str, object: Value| {
            let ty = crate::discovery::ResourceType {
                kind: kind.to_owned(),
                ..Default::default()
            };
            Info::of(&Arc::new(ty), object)
        };
        let of_pod = info("Pod", pod.clone());
        let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "targetPort": "http"}]}});
        let of_service = info("Service", service);
        let ports = |info: &Info, text: &str| pair(info, &pod, text).map(|p| (p.local, p.remote)).ok();
        assert_eq!(ports(&of_pod, "80"), Some((80, 80)));
        assert_eq!(ports(&of_pod, ":80"), Some((0, 80)));
        assert_eq!(ports(&of_pod, "1:http"), Some((1, 8080)));
        assert_eq!(ports(&of_pod, "nope"), None);
        assert_eq!(ports(&of_service, "80"), Some((80, 8080)));
        assert_eq!(ports(&of_service, "81"), None);
    }
}
