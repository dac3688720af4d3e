//! Writes the seeds that are no text: `cargo run -p fuzz --example seeds`.

use std::fs;
use std::io;
use std::path::Path;

use api::schema::{Schema, envelope};
use base64::Engine;
use bytes::Bytes;
use cri::v1;
use fuzz::trees;
use prost::Message;
use streaming::spdy::frame::{Frame, encode};
use streaming::spdy::header_block::Compressor;

fn put(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(name), bytes)
}

fn main() -> io::Result<()> {
    protobuf()?;
    streams()?;
    netlink()?;
    dns()?;
    store()?;
    messages()?;
    layers()?;
    certificate()
}

/// The objects that JSON has.
fn protobuf() -> io::Result<()> {
    let schema = Schema::builtin();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/json"))? {
        let entry = entry?;
        let text = fs::read(entry.path())?;
        let Ok(tree) = serde_json::from_slice::<serde_json::Value>(&text) else {
            continue;
        };
        let Some(root) = trees::type_of(&tree) else { continue };
        let Ok(decoded) = schema.decode_json(root, &text) else {
            continue;
        };
        let Ok(raw) = schema.encode_proto(root, &decoded.value) else {
            continue;
        };
        let word = |key: &str| decoded.value[key].as_str().unwrap_or_default();
        let name = entry.file_name().to_string_lossy().into_owned();
        put(
            "protobuf",
            &name,
            &envelope::wrap_unknown(word("apiVersion"), word("kind"), &raw),
        )?;
    }
    Ok(())
}

fn streams() -> io::Result<()> {
    let mut compressor = Compressor::new()?;
    let mut frames = Vec::new();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for (n, kind) in ["error", "stdin", "stdout", "stderr"].into_iter().enumerate() {
        let id = 2 * n as u32 + 1;
        let headers = vec![pair("streamtype", kind), pair("port", "80"), pair("requestid", "0")];
        frames.extend(encode(
            &Frame::SynStream {
                id,
                fin: false,
                headers,
            },
            &mut compressor,
        )?);
    }
    for frame in [
        Frame::SynReply {
            id: 1,
            headers: Vec::new(),
        },
        Frame::Data {
            id: 3,
            fin: true,
            bytes: Bytes::from_static(b"hello"),
        },
        Frame::Ping { id: 1 },
        Frame::RstStream { id: 5, status: 5 },
        Frame::GoAway { last: 7 },
    ] {
        frames.extend(encode(&frame, &mut compressor)?);
    }
    put("spdy", "session", &frames)?;
    let with = |first: u8, rest: &[u8]| [&[first][..], rest].concat();
    put("streams", "exec-spdy", &with(0b0011_0000, &frames))?;
    put("streams", "forward-spdy", &with(0b0000_0010, &frames))?;
    // masked with zeros: input, a terminal's size, the end of the input, a close
    let message = |op: u8, data: &[u8]| [&[0x80 | op, 0x80 | data.len() as u8, 0, 0, 0, 0][..], data].concat();
    let channels = [
        message(2, b"\x00ls\n"),
        message(2, b"\x04{\"Width\":80,\"Height\":24}"),
        message(2, b"\xff\x00"),
        message(1, b"0bHM="),
        message(8, b"\x03\xe8bye"),
    ]
    .concat();
    put("websocket", "channels", &channels)?;
    put("streams", "exec-websocket", &with(0b0111_0001, &channels))?;
    put("streams", "exec-base64", &with(0b0111_1001, &channels))?;
    put("streams", "forward-websocket", &with(0b0000_0111, &channels))?;
    put(
        "streams",
        "forward-tunnel",
        &with(0b0000_0011, &message(2, &frames[..frames.len().min(100)])),
    )
}

fn netlink() -> io::Result<()> {
    use cni::netlink::{Attributes, Message};
    let written = |kind: u16, flags: u16, header: &[u8], fill: &dyn Fn(&mut Attributes)| {
        let mut message = Message::new(kind, flags, header);
        fill(&mut message.body);
        let mut out = Vec::new();
        message.encode(1, &mut out);
        out
    };
    let address = |a: &mut Attributes| a.put(1, &[10, 42, 0, 5]);
    let done = written(3, 2, &[0; 4], &|_| {});
    let link = written(16, 2, &[0, 0, 1, 0, 1, 0, 0, 0, 0x43, 0, 1, 0, 0, 0, 0, 0], &|a| {
        a.text(3, "eth0");
        a.put(1, &[2, 0, 0, 0, 0, 1]);
        a.u32(4, 1450);
        a.u32(5, 7);
        a.nest(18, |a| a.text(1, "veth"));
    });
    let own = written(20, 2, &[2, 24, 0, 0, 1, 0, 0, 0], &address);
    let route = written(24, 2, &[2, 24, 0, 0, 254, 80, 0, 1, 0, 0, 0, 0], &|a| {
        a.put(1, &[10, 42, 1, 0]);
        a.put(5, &[192, 0, 2, 1]);
        a.u32(4, 3);
    });
    let neighbour = written(28, 2, &[2, 0, 0, 0, 1, 0, 0, 0, 0x80, 0, 0, 0], &|a| {
        address(a);
        a.put(2, &[2, 0, 0, 0, 0, 2]);
    });
    let flow = written(0x100, 2, &[2, 0, 0, 0], &|a| {
        for kind in [1, 2] {
            a.nest(kind, |a| {
                a.nest(1, |a| {
                    a.put(1, &[10, 42, 0, 5]);
                    a.put(2, &[10, 96, 0, 1]);
                });
                a.nest(2, |a| {
                    a.u8(1, 17);
                    a.be16(2, 4000);
                    a.be16(3, 53);
                });
            });
        }
        a.be32(12, 99);
    });
    let rule = written(0xa06, 2, &[2, 0, 0, 0], &|a| {
        a.text(1, "skiff");
        a.text(2, "chain");
        a.be64(3, 5);
        a.put(7, b"\x00\x04abc\x00");
    });
    let refused = written(2, 0x200, &[], &|a| {
        a.raw(&(-17i32).to_ne_bytes());
        a.raw(&[20, 0, 0, 0, 16, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
        a.text(1, "File exists");
    });
    let list = [link, own, route, neighbour, flow, rule, done].concat();
    put("netlink", "list", &[&[1][..], &list].concat())?;
    put("netlink", "refused", &[&[0][..], &refused].concat())
}

fn dns() -> io::Result<()> {
    let name = |text: &str| {
        let labels = text
            .split('.')
            .flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat());
        labels.chain([0]).collect::<Vec<u8>>()
    };
    let head = |bits: u16, counts: [u8; 4]| {
        let mut out = vec![0x12, 0x34];
        out.extend(bits.to_be_bytes());
        counts.iter().for_each(|count| out.extend([0, *count]));
        out
    };
    for (file, text, kind) in [
        ("a", "a.default.svc.cluster.local", 1u8),
        ("srv", "_http._tcp.b.default.svc.cluster.local", 33),
        ("alias", "c.default.svc.cluster.local", 28),
        ("ptr", "1.0.96.10.in-addr.arpa", 12),
        ("elsewhere", "example.com", 255),
    ] {
        let mut query = head(0x0100, [1, 0, 0, 1]);
        query.extend(name(text));
        query.extend([0, kind, 0, 1]);
        // EDNS with "DNSSEC OK" and a cookie
        query.extend([
            0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8,
        ]);
        put("dns", file, &query)?;
    }
    let mut answer = head(0x8180, [1, 2, 1, 0]);
    answer.extend(name("www.example.com"));
    answer.extend([0, 1, 0, 1]);
    answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'x', 0xc0, 16]);
    answer.extend([0xc0, 45, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
    answer.extend([0xc0, 16, 0, 6, 0, 1, 0, 0, 0, 60, 0, 24, 0xc0, 12, 0xc0, 12]);
    answer.extend([0; 20]);
    put("dns", "answer", &answer)
}

fn store() -> io::Result<()> {
    let entry = |kind: u8, numbers: &[u64], texts: &[&str]| {
        let mut out = vec![kind];
        numbers.iter().for_each(|n| out.extend(n.to_le_bytes()));
        for text in texts {
            out.extend((text.len() as u32).to_le_bytes());
            out.extend(text.as_bytes());
        }
        out
    };
    let put_a = entry(1, &[2, 2, 1, 7], &["/registry/a", "{}"]);
    let bodies = [
        entry(6, &[1], &[]),
        put_a.clone(),
        [entry(3, &[7, 60], &[]), entry(1, &[3, 3, 1, 0], &["/registry/b", "x"])].concat(),
        entry(2, &[4], &["/registry/a"]),
        [entry(5, &[3], &[]), entry(4, &[7], &[])].concat(),
    ];
    let framed = |bodies: &[Vec<u8>]| {
        bodies
            .iter()
            .flat_map(|b| [&[b.len() as u8][..], b].concat())
            .collect::<Vec<u8>>()
    };
    let records = framed(&bodies);
    put("store", "records", &[&[2][..], &records].concat())?;
    let head: Vec<u8> = [5u64, 1, 7, 60].iter().flat_map(|n| n.to_le_bytes()).collect();
    let saved = framed(&[head, put_a, entry(5, &[1], &[])]);
    put("store", "saved", &[&[3][..], &saved].concat())?;
    put(
        "store",
        "segment",
        &[&[0][..], &etcd::fuzzing::segment(1, &records)].concat(),
    )?;
    put(
        "store",
        "snapshot",
        &[&[1][..], &etcd::fuzzing::snapshot(&saved)].concat(),
    )
}

fn messages() -> io::Result<()> {
    let security = v1::LinuxContainerSecurityContext {
        run_as_user: Some(v1::Int64Value { value: 1000 }),
        seccomp: Some(v1::SecurityProfile {
            profile_type: 2,
            localhost_ref: "/a".into(),
        }),
        ..Default::default()
    };
    let resources = v1::LinuxContainerResources {
        cpu_shares: 102,
        memory_limit_in_bytes: 1 << 30,
        oom_score_adj: -997,
        ..Default::default()
    };
    let pod = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "a".into(),
            uid: "u".into(),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: "a".into(),
        log_directory: "/var/log/pods/a".into(),
        dns_config: Some(v1::DnsConfig {
            servers: vec!["10.96.0.10".into()],
            searches: vec!["svc".into()],
            options: vec!["ndots:5".into()],
        }),
        port_mappings: vec![v1::PortMapping {
            protocol: 0,
            container_port: 80,
            host_port: 8080,
            host_ip: String::new(),
        }],
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods".into(),
            sysctls: [("a.b".into(), "1".into())].into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: "c".into(),
            attempt: 1,
        }),
        command: vec!["/pause".into()],
        envs: vec![v1::KeyValue {
            key: "A".into(),
            value: "b".into(),
        }],
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources),
            security_context: Some(security),
        }),
        ..Default::default()
    };
    let run = v1::RunPodSandboxRequest {
        config: Some(pod.clone()),
        runtime_handler: String::new(),
    };
    let create = v1::CreateContainerRequest {
        pod_sandbox_id: "p".into(),
        config: Some(config),
        sandbox_config: Some(pod),
    };
    let update = v1::UpdateContainerResourcesRequest {
        container_id: "c".into(),
        linux: Some(resources_of(&create)),
        ..Default::default()
    };
    put("cri", "run", &[&[0][..], &run.encode_to_vec()].concat())?;
    put("cri", "create", &[&[1][..], &create.encode_to_vec()].concat())?;
    put("cri", "update", &[&[2][..], &update.encode_to_vec()].concat())
}

fn resources_of(request: &v1::CreateContainerRequest) -> v1::LinuxContainerResources {
    let linux = request.config.as_ref().and_then(|config| config.linux.clone());
    linux.and_then(|linux| linux.resources).unwrap_or_default()
}

fn layers() -> io::Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut entry = |kind: tar::EntryType, name: &str, link: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(1_796_083_200);
        if !link.is_empty() {
            return layer.append_link(&mut header, name, link);
        }
        layer.append_data(&mut header, name, content)
    };
    entry(tar::EntryType::Directory, "etc/", "", b"")?;
    entry(tar::EntryType::Regular, "etc/passwd", "", b"root:x:0:0::/:/bin/sh\n")?;
    entry(tar::EntryType::Symlink, "lib", "usr/lib", b"")?;
    entry(tar::EntryType::Link, "etc/shadow", "etc/passwd", b"")?;
    entry(tar::EntryType::Fifo, "run/fifo", "", b"")?;
    entry(tar::EntryType::Regular, "usr/.wh.old", "", b"")?;
    entry(tar::EntryType::Regular, "usr/.wh..wh..opq", "", b"")?;
    let layer = layer.into_inner()?;
    put("layer", "plain", &layer)?;
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    io::Write::write_all(&mut gz, &layer)?;
    let layer = gz.finish()?;
    put("layer", "gzip", &layer)?;
    let digest = runtime::image::unpack::digest_of;
    let plain_digest = digest(&fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/layer/plain"),
    )?);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["sh"]}},"rootfs":{{"diff_ids":["{plain_digest}"]}}}}"#
    );
    let hex = |bytes: &[u8]| digest(bytes).trim_start_matches("sha256:").to_owned();
    let descriptor = |bytes: &[u8]| format!(r#"{{"digest":"{}","size":{}}}"#, digest(bytes), bytes.len());
    let manifest = format!(
        r#"{{"config":{},"layers":[{}]}}"#,
        descriptor(config.as_bytes()),
        descriptor(&layer)
    );
    let index = format!(
        r#"{{"manifests":[{{"digest":"{}","size":{},"annotations":{{"io.containerd.image.name":"example.com/a:b"}}}}]}}"#,
        digest(manifest.as_bytes()),
        manifest.len()
    );
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
    let archive = |files: &[(String, &[u8])]| -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, *bytes)?;
        }
        archive.into_inner()
    };
    let oci = archive(&[
        ("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json".into(), index.as_bytes()),
        (blob(manifest.as_bytes()), manifest.as_bytes()),
        (blob(config.as_bytes()), config.as_bytes()),
        (blob(&layer), &layer),
    ])?;
    put("archive", "oci", &oci)?;
    let saved = r#"[{"Config":"c.json","RepoTags":["example.com/a:b"],"Layers":["l/layer.tar"]}]"#;
    let docker = archive(&[
        ("manifest.json".into(), saved.as_bytes()),
        ("c.json".into(), config.as_bytes()),
        ("l/layer.tar".into(), &layer),
    ])?;
    put("archive", "docker", &docker)
}

fn certificate() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let now = time::OffsetDateTime::now_utc();
    let authority = pki::Authority::load_or_create(dir.path(), "ca", now).map_err(io::Error::other)?;
    let who = pki::Identity {
        common_name: "alice",
        organizations: &["dev", "system:masters"],
    };
    let names = ["localhost".to_owned(), "10.0.0.1".to_owned()];
    let (pem, _) = authority
        .issue(
            &who,
            &pki::Usage::Server(names.to_vec()),
            time::Duration::days(365),
            now,
        )
        .map_err(io::Error::other)?;
    put("certificate", "leaf.pem", pem.as_bytes())?;
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    put(
        "certificate",
        "leaf.der",
        &base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(io::Error::other)?,
    )?;
    let (_, request) = pki::key_and_request().map_err(io::Error::other)?;
    put("certificate", "request.der", &request)
}
